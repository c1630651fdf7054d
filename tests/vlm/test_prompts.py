from dataclasses import replace

import numpy as np
import pytest
import torch

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, MODALITIES, NIH_14
from vlm.encoders import load_encoder
from vlm.prompts import CHEST, LabelPrompts, Wording, label_prompts, text_prototypes


class _Dictionary:
    """A text tower that knows some prompts by heart and gives every other one the direction (0, 1)."""

    def __init__(self, known):
        self.known = known

    def text_features(self, prompts):
        return torch.tensor([self.known.get(prompt, (0.0, 1.0)) for prompt in prompts])


def test_bare_names_are_the_labels_as_they_stand():
    prompts = label_prompts(["Pleural_Thickening", "No Finding"], "name", Wording(modality=CHEST))
    assert [p.positive for p in prompts] == [("Pleural_Thickening",), ("No Finding",)]
    assert all(p.negative == () for p in prompts)


def test_sentences_read_as_a_radiologist_writes():
    thickening, normal, mass, own = label_prompts(
        ["Pleural_Thickening", "No Finding", "Mass", "Tree_in_Bud"], "pair", Wording(modality=CHEST)
    )
    assert "a chest X-ray showing pleural thickening" in thickening.positive
    assert "no evidence of pleural thickening" in thickening.negative
    assert "a normal chest X-ray" in normal.positive and "an abnormal chest X-ray" in normal.negative
    assert "a chest X-ray without a lung mass" in mass.negative and "there is no lung mass" in mass.negative
    assert "there is tree in bud" in own.positive


def test_the_words_for_a_chest_radiograph_are_fixed():
    """Zero-shot scores depend on every one of them."""
    mass, normal = label_prompts(["Mass", "No Finding"], "pair", Wording(modality="chest radiograph"))
    assert mass == LabelPrompts(
        positive=(
            "a lung mass",
            "a chest X-ray showing a lung mass",
            "a frontal chest radiograph with a lung mass",
            "findings consistent with a lung mass",
            "there is a lung mass",
        ),
        negative=(
            "no lung mass",
            "a chest X-ray without a lung mass",
            "a frontal chest radiograph with no lung mass",
            "no evidence of a lung mass",
            "there is no lung mass",
        ),
    )
    assert normal == LabelPrompts(
        positive=(
            "a normal chest X-ray",
            "a normal frontal chest radiograph",
            "no acute cardiopulmonary abnormality",
            "the lungs are clear and the heart size is normal",
            "no abnormal finding",
        ),
        negative=(
            "an abnormal chest X-ray",
            "an abnormal frontal chest radiograph",
            "an acute cardiopulmonary abnormality",
            "a chest X-ray showing an abnormality",
            "an abnormal finding",
        ),
    )


def test_other_modalities_say_what_they_are_and_labels_as_written():
    mass, normal = label_prompts(["Breast_Mass", "No Finding"], "pair", Wording(modality="ultrasound"))
    assert mass == LabelPrompts(
        positive=(
            "breast mass",
            "an ultrasound image showing breast mass",
            "an ultrasound image with breast mass",
            "findings consistent with breast mass",
            "there is breast mass",
        ),
        negative=(
            "no breast mass",
            "an ultrasound image without breast mass",
            "an ultrasound image with no breast mass",
            "no evidence of breast mass",
            "there is no breast mass",
        ),
    )
    assert normal == LabelPrompts(
        positive=(
            "a normal ultrasound image",
            "an ultrasound image without any abnormality",
            "no abnormal finding",
        ),
        negative=(
            "an abnormal ultrasound image",
            "an ultrasound image showing an abnormality",
            "an abnormal finding",
        ),
    )


@pytest.mark.parametrize("modality", MODALITIES[1:])
def test_no_other_modality_speaks_of_the_chest(modality):
    labels = (*CHEXPERT_14, *NIH_14, "melanoma")
    for style in ("ensemble", "pair"):
        for prompts in label_prompts(labels, style, Wording(modality=modality)):
            for text in prompts.positive + prompts.negative:
                assert not {"chest", "lungs", "cardiopulmonary", "frontal"} & set(text.split())
                assert "{" not in text and "no a " not in text
    wording = Wording(modality=modality)
    assert label_prompts(["Edema"], "name", wording) == [LabelPrompts(("Edema",))]
    assert "there is mass" in label_prompts(["Mass"], "ensemble", wording)[0].positive


def test_an_unknown_modality_is_one_line_with_the_known_ones():
    with pytest.raises(InputError) as caught:
        label_prompts(["Edema"], "ensemble", Wording(modality="xray"))
    assert str(caught.value) == f"modality must be one of {', '.join(MODALITIES)}, got 'xray'"


@pytest.mark.parametrize("style", ["ensemble", "pair"])
def test_every_prompt_of_every_label_is_distinct(style):
    prompts = label_prompts(dict.fromkeys(CHEXPERT_14 + NIH_14), style, Wording(modality=CHEST))
    sentences = [s for p in prompts for s in p.positive + p.negative]
    # CheXpert's Pleural Effusion and ChestX-ray14's Effusion are the same finding.
    twice = {s for s in sentences if sentences.count(s) > 1}
    assert all("pleural effusion" in s for s in twice)
    assert not any("_" in s or "{" in s or "no a " in s or "  " in s for s in sentences)


def test_an_ensemble_is_the_normalised_mean_of_normalised_features_worked_by_hand():
    positive = label_prompts(["Edema"], "ensemble", Wording(modality=CHEST))[0].positive
    encoder = _Dictionary({positive[0]: (10.0, 0.0)})
    # One prompt at (1, 0), n - 1 at (0, 1): the direction (1, n - 1).
    expected = np.array([1, len(positive) - 1]) / np.hypot(1, len(positive) - 1)
    present_CD, absent_CD = text_prototypes(encoder, ["Edema"], "ensemble", Wording(modality=CHEST))
    np.testing.assert_allclose(present_CD[0], expected, rtol=1e-6)
    assert absent_CD is None


def test_prototypes_of_a_text_tower(miniature):
    labels = ["Cardiomegaly", "Edema", "No Finding"]
    bare_CD, none = text_prototypes(miniature, labels, "name", Wording(modality=CHEST))
    np.testing.assert_array_equal(bare_CD, miniature.text_features(labels).numpy())
    assert none is None
    present_CD, absent_CD = text_prototypes(miniature, labels, "pair", Wording(modality=CHEST))
    assert present_CD.shape == absent_CD.shape == (3, miniature.width)
    assert present_CD.dtype == absent_CD.dtype == np.float32
    for c, prompts in enumerate(label_prompts(labels, "pair", Wording(modality=CHEST))):
        x_PD = torch.nn.functional.normalize(miniature.text_features(prompts.negative), dim=1)
        expected = torch.nn.functional.normalize(x_PD.mean(0), dim=0)
        np.testing.assert_allclose(absent_CD[c], expected, atol=1e-6)


def test_an_unknown_style_and_a_missing_text_tower_are_one_line():
    with pytest.raises(InputError, match="prompt style must be one of name, ensemble, pair, got 'names'"):
        label_prompts(["Edema"], "names", Wording(modality=CHEST))
    with pytest.raises(InputError, match="encoder pixels has no text tower"):
        text_prototypes(load_encoder("pixels"), ["Edema"], "name", Wording(modality=CHEST))


MOLES = Wording(
    modality="dermoscopy",
    label_names={"nv": "melanocytic nevus", "No Finding": "healthy skin"},
    label_prompts={"nv": ["a harmless mole", "a nevus"], "No Finding": ["clear skin"]},
)


def test_display_names_stand_in_every_prompt_as_they_are_written():
    wording = replace(MOLES, label_prompts={})
    names = label_prompts(["nv", "akiec", "No Finding"], "name", wording)
    assert [one.positive for one in names] == [("melanocytic nevus",), ("akiec",), ("healthy skin",)]
    nevus, healthy = label_prompts(["nv", "No Finding"], "pair", wording)
    assert nevus.positive[1] == "a dermoscopic image showing melanocytic nevus"
    assert nevus.negative[0] == "no melanocytic nevus"
    assert "a normal dermoscopic image" in healthy.positive
    (tb,) = label_prompts(["Mass"], "ensemble", Wording(modality=CHEST, label_names={"Mass": "a TB cavity"}))
    assert tb.positive[0] == "a TB cavity"


def test_given_prompts_stand_for_the_finding_and_the_modalitys_for_its_absence():
    (nevus,) = label_prompts(["nv"], "ensemble", MOLES)
    assert nevus == LabelPrompts(("a harmless mole", "a nevus"))
    nevus, healthy = label_prompts(["nv", "No Finding"], "pair", MOLES)
    assert nevus.positive == ("a harmless mole", "a nevus") and healthy.positive == ("clear skin",)
    assert nevus.negative[0] == "no melanocytic nevus" and "an abnormal finding" in healthy.negative
    assert label_prompts(["nv"], "name", MOLES) == [LabelPrompts(("melanocytic nevus",))]
