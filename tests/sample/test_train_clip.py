"""The shipped model, and the script that trains it."""

import json
import re

import numpy as np
import open_clip
import pytest
import torch
from open_clip.loss import ClipLoss

from cohort.labels import CHEXPERT_14, NIH_14, NO_FINDING
from sample.appearance import TRAINING
from sample.phantoms import Phantom, draw_phantoms, plan_phantoms, targets_of
from sample.reports import Statement
from sample.train_clip import (
    LOG_FILE,
    SIZE,
    TRAINING_PREVALENCE,
    caption,
    contrastive_loss,
    patch_labels,
    train,
    true_captions,
)
from vlm.encoders import load_encoder
from vlm.encoders.open_clip import PHANTOM_CLIP
from vlm.prompts import CHEST, STYLES, Wording, label_prompts


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("phantom-clip", device="cpu")


@pytest.fixture(scope="module")
def unseen() -> tuple[list[Phantom], np.ndarray]:
    """Films of the training appearance that neither training nor its log has seen."""
    phantoms = plan_phantoms(90, seed=77, appearance=TRAINING, prevalence=TRAINING_PREVALENCE)
    images_NHW, _ = draw_phantoms(phantoms, SIZE)
    return phantoms, images_NHW


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features, dim=1).numpy()


# ------------------------------------------------------------------------------------- the shipped model


def test_the_folder_holds_at_most_eight_megabytes():
    assert sum(path.stat().st_size for path in PHANTOM_CLIP.iterdir()) <= 8 * 1024**2


def test_plain_open_clip_loads_the_folder_and_agrees_with_the_encoder(encoder, unseen):
    from PIL import Image

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{PHANTOM_CLIP}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{PHANTOM_CLIP}")
    images_NHW = unseen[1][:4]
    pixels = torch.stack([transform(Image.fromarray(image).convert("RGB")) for image in images_NHW])
    with torch.inference_mode():
        images_BD = model.eval().encode_image(pixels)
        text_BD = model.encode_text(tokenizer(["Pleural Effusion", "No Finding"]))
    torch.testing.assert_close(images_BD, encoder.image_features(images_NHW[..., None]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        text_BD, encoder.text_features(["Pleural Effusion", "No Finding"]), rtol=1e-4, atol=1e-4
    )


def test_label_names_and_prompts_are_whole_words_to_the_tokenizer(encoder):
    tokenizer = encoder.tokenizer.tokenizer
    for style in STYLES:
        for prompts in label_prompts((*CHEXPERT_14, *NIH_14), style, Wording(modality=CHEST)):
            for text in (*prompts.positive, *prompts.negative):
                pieces = tokenizer.tokenize(text)
                assert tokenizer.unk_token not in pieces
                assert not any(piece.startswith("##") for piece in pieces), (text, pieces)
    assert tokenizer.tokenize("Pleural Effusion") == ["pleural", "effusion"]
    assert tokenizer.tokenize("hilum") == ["h", "##i", "##l", "##u", "##m"]


def test_text_features_are_read_at_the_end_mark_and_padding_does_not_matter(encoder):
    tokens = encoder.tokenizer(["Cardiomegaly"])
    (end,) = torch.nonzero(tokens[0] == encoder.clip.text_eos_id).flatten().tolist()
    assert encoder.clip.text_pool_type == "eos" and end == 2
    other = tokens.clone()
    other[0, end + 1 :] = 17
    with torch.inference_mode():
        torch.testing.assert_close(encoder.clip.encode_text(tokens), encoder.clip.encode_text(other))


def test_films_are_nearer_to_captions_that_are_true_of_them(encoder, unseen):
    phantoms, images_NHW = unseen
    image_ND = unit(encoder.image_features(images_NHW[..., None]))
    text_CD = unit(encoder.text_features(list(CHEXPERT_14)))
    cosines_NC = image_ND @ text_CD.T
    assert np.abs(cosines_NC).max() <= 1 + 1e-5
    targets_NC = targets_of(phantoms) == 1
    above = [
        cosines_NC[targets_NC[:, c], c].mean() > cosines_NC[~targets_NC[:, c], c].mean()
        for c in range(len(CHEXPERT_14))
    ]
    assert sum(above) >= 11
    assert cosines_NC[targets_NC].mean() > cosines_NC[~targets_NC].mean() + 0.05


def test_the_log_tells_how_training_went():
    entries = [json.loads(line) for line in (PHANTOM_CLIP / LOG_FILE).read_text().splitlines()]
    assert [entry["step"] for entry in entries] == sorted(entry["step"] for entry in entries)
    assert entries[-1]["loss"] < entries[0]["loss"]
    assert entries[-1]["held_out_zero_shot_macro_auroc"] > 0.65


# ---------------------------------------------------------------------------------------------- the loss


def statements(*pairs):
    return [Statement("", frozenset(asserts), frozenset(denies)) for asserts, denies in pairs]


def test_a_finding_is_in_the_patches_that_its_mask_touches():
    masks_NHW = np.zeros((2, 32, 48), np.uint16)
    masks_NHW[0, 15, 16] = 1 << 3  # the last row of the first patches, the first column of the second
    masks_NHW[1, 16:, 40:] = (1 << 13) | 1
    masks_NHW[1, 0, 0] = 1 << 14  # a bit of no finding
    patches_NTC = patch_labels(masks_NHW)
    assert patches_NTC.shape == (2, 6, 14) and patches_NTC.dtype == bool
    assert np.argwhere(patches_NTC).tolist() == [[0, 1, 3], [1, 5, 0], [1, 5, 13]]


def test_a_caption_is_true_where_all_it_asserts_is_there_and_nothing_it_denies():
    films = [frozenset(labels) for labels in ({"Cardiomegaly", "Edema"}, {"Cardiomegaly"}, {NO_FINDING})]
    captions = statements(
        ({"Cardiomegaly"}, ()),
        ({"Cardiomegaly"}, {"Edema"}),
        ({NO_FINDING}, {"Pneumothorax"}),
        ((), {"Pneumothorax"}),
    )
    expected = [[1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1]]
    np.testing.assert_array_equal(true_captions(films, captions).numpy(), expected)


def test_with_one_true_caption_a_film_the_loss_is_that_of_clip():
    torch.manual_seed(0)
    image_BD = torch.nn.functional.normalize(torch.randn(7, 5), dim=1)
    text_BD = torch.nn.functional.normalize(torch.randn(7, 5), dim=1)
    expected = ClipLoss()(image_BD, text_BD, torch.tensor(12.5))
    torch.testing.assert_close(contrastive_loss(12.5 * image_BD @ text_BD.T, torch.eye(7)), expected)


def test_the_loss_of_a_case_worked_by_hand():
    # Caption 0 is true of both films, caption 1 of the second only. Logits ln 2 where caption 1 meets film 1.
    logits_BB = torch.tensor([[0.0, 0.0], [0.0, np.log(2.0)]])
    true_BB = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # Films: -ln(1/2); -(ln(1/3) + ln(2/3)) / 2. Captions: -ln(1/2) over both films; -ln(2/3).
    films = (np.log(2) - (np.log(1 / 3) + np.log(2 / 3)) / 2) / 2
    captions = (np.log(2) - np.log(2 / 3)) / 2
    assert contrastive_loss(logits_BB, true_BB).item() == pytest.approx((films + captions) / 2, rel=1e-6)


def test_captions_are_true_of_their_film_and_spelt_in_whole_words(unseen):
    phantoms, _ = unseen
    rng = np.random.default_rng(0)
    known = set((PHANTOM_CLIP / "vocab.txt").read_text().split())
    for phantom in phantoms:
        for _ in range(10):
            said = caption(phantom, rng)
            assert said.asserts or said.denies
            assert said.true_of(phantom.facts), (said, phantom.facts)
            words = set(re.findall("[a-z]+", said.text.lower()))
            assert words <= known, words - known


# ---------------------------------------------------------------------------------------------- the script


def test_two_steps_of_training_give_a_model_that_loads_and_the_same_one_again(tmp_path):
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("first", "again"):
            train(
                tmp_path / name,
                images=40,
                held_out=30,
                epochs=1,
                batch_size=20,
                seed=3,
                logged_every=1,
            )
    finally:
        torch.set_num_threads(kept)
    first, again = (load_encoder(f"local-dir:{tmp_path / name}", device="cpu") for name in ("first", "again"))
    assert first.fingerprint == again.fingerprint
    assert first.width == 192 and first.geometry.size == SIZE
    assert first.text_features(list(CHEXPERT_14)).shape == (14, 192)
    entries = [json.loads(line) for line in (tmp_path / "first" / LOG_FILE).read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2]
    assert set(entries[0]) == {"step", "loss", "held_out_zero_shot_macro_auroc", "seconds"}
