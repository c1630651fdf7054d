import numpy as np
import pytest
import torch

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NIH_14
from vlm.encoders import load_encoder
from vlm.prompts import label_prompts, text_prototypes


class _Dictionary:
    """A text tower that knows some prompts by heart and gives every other one the direction (0, 1)."""

    def __init__(self, known):
        self.known = known

    def text_features(self, prompts):
        return torch.tensor([self.known.get(prompt, (0.0, 1.0)) for prompt in prompts])


def test_bare_names_are_the_labels_as_they_stand():
    prompts = label_prompts(["Pleural_Thickening", "No Finding"], "name")
    assert [p.positive for p in prompts] == [("Pleural_Thickening",), ("No Finding",)]
    assert all(p.negative == () for p in prompts)


def test_sentences_read_as_a_radiologist_writes():
    thickening, normal, mass, own = label_prompts(
        ["Pleural_Thickening", "No Finding", "Mass", "Tree_in_Bud"], "pair"
    )
    assert "a chest X-ray showing pleural thickening" in thickening.positive
    assert "no evidence of pleural thickening" in thickening.negative
    assert "a normal chest X-ray" in normal.positive and "an abnormal chest X-ray" in normal.negative
    assert "a chest X-ray without a lung mass" in mass.negative and "there is no lung mass" in mass.negative
    assert "there is tree in bud" in own.positive


@pytest.mark.parametrize("style", ["ensemble", "pair"])
def test_every_prompt_of_every_label_is_distinct(style):
    prompts = label_prompts(dict.fromkeys(CHEXPERT_14 + NIH_14), style)
    sentences = [s for p in prompts for s in p.positive + p.negative]
    # CheXpert's Pleural Effusion and ChestX-ray14's Effusion are the same finding.
    twice = {s for s in sentences if sentences.count(s) > 1}
    assert all("pleural effusion" in s for s in twice)
    assert not any("_" in s or "{" in s or "no a " in s or "  " in s for s in sentences)


def test_an_ensemble_is_the_normalised_mean_of_normalised_features_worked_by_hand():
    positive = label_prompts(["Edema"], "ensemble")[0].positive
    encoder = _Dictionary({positive[0]: (10.0, 0.0)})
    # One prompt at (1, 0), n - 1 at (0, 1): the direction (1, n - 1).
    expected = np.array([1, len(positive) - 1]) / np.hypot(1, len(positive) - 1)
    present_CD, absent_CD = text_prototypes(encoder, ["Edema"], "ensemble")
    np.testing.assert_allclose(present_CD[0], expected, rtol=1e-6)
    assert absent_CD is None


def test_prototypes_of_a_text_tower(miniature):
    labels = ["Cardiomegaly", "Edema", "No Finding"]
    bare_CD, none = text_prototypes(miniature, labels)
    np.testing.assert_array_equal(bare_CD, miniature.text_features(labels).numpy())
    assert none is None
    present_CD, absent_CD = text_prototypes(miniature, labels, "pair")
    assert present_CD.shape == absent_CD.shape == (3, miniature.width)
    assert present_CD.dtype == absent_CD.dtype == np.float32
    for c, prompts in enumerate(label_prompts(labels, "pair")):
        x_PD = torch.nn.functional.normalize(miniature.text_features(prompts.negative), dim=1)
        expected = torch.nn.functional.normalize(x_PD.mean(0), dim=0)
        np.testing.assert_allclose(absent_CD[c], expected, atol=1e-6)


def test_an_unknown_style_and_a_missing_text_tower_are_one_line():
    with pytest.raises(InputError, match="prompt style must be one of name, ensemble, pair, got 'names'"):
        label_prompts(["Edema"], "names")
    with pytest.raises(InputError, match="encoder pixels has no text tower"):
        text_prototypes(load_encoder("pixels"), ["Edema"])
