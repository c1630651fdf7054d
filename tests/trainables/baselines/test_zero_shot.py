"""Zero-shot as linear heads, worked by hand on an encoder whose text features are known."""

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from cohort.errors import InputError
from tests.trainables.single_split import probe_data
from trainables.baselines.base import BaselineInputs
from trainables.baselines.zero_shot import fit, zero_shot_record
from vlm.feature_kinds import side_by_side
from vlm.prompts import CHEST

COHORT = SimpleNamespace(modality=CHEST, label_names={}, label_prompts={})


class TwoWords:
    """Prompts that deny point along the second axis, all others along the first; lengths differ."""

    logit_scale = 10.0
    width = 2
    text_refusal = ""
    kinds: ClassVar = side_by_side({"projected": (2,)})

    def text_features(self, prompts):
        rows = [[0.0, 5.0] if "no " in p or "without" in p else [2.0, 0.0] for p in prompts]
        return torch.tensor(rows)


class SpaceOfThree(TwoWords):
    """A third axis that no prompt speaks of, so that images of one length differ freely in the first two."""

    width = 3
    kinds: ClassVar = side_by_side({"projected": (3,)})

    def text_features(self, prompts):
        return torch.nn.functional.pad(super().text_features(prompts), (0, 1))


IMAGES_ND = np.array([[3.0, 4.0], [6.0, 8.0]], dtype=np.float32)  # of one direction, lengths 5 and 10


def inputs(data, encoder, objective="macro_auroc"):
    return BaselineInputs(cohort=COHORT, data=data, encoder=encoder, features=None, objective=objective)


def scores_of(style):
    images = np.arange(20)
    data = probe_data(
        np.tile(IMAGES_ND, (10, 1)),
        (images % 2)[:, None].astype(float),
        np.tile(IMAGES_ND, (10, 1)),
        (images % 2)[:, None].astype(float),
        val_patients_N=images,
        val_folds_N=images // 4,
        labels=("Mass",),
    )
    return zero_shot_record(inputs(data, TwoWords()), style).head.logits(IMAGES_ND)


def test_bare_names_give_raw_products():
    np.testing.assert_allclose(scores_of("name"), [[6.0], [12.0]])


def test_an_ensemble_gives_scaled_cosines_whatever_the_lengths():
    np.testing.assert_allclose(scores_of("ensemble"), [[6.0], [6.0]], rtol=1e-6)


def test_a_pair_gives_the_difference_of_presence_and_absence():
    np.testing.assert_allclose(scores_of("pair"), [[10 * (0.6 - 0.8)]] * 2, rtol=1e-5)


def test_an_unknown_style_is_refused():
    with pytest.raises(InputError, match="prompt style must be one of name, ensemble, pair, got 'poem'"):
        scores_of("poem")


@pytest.mark.parametrize(
    ("objective", "logits_of_the_first"),
    [("macro_auroc", 10 * 0.26), ("macro_f1", 10 * (0.26 - 0.60))],
)
def test_prompts_are_chosen_by_the_studys_objective(objective, logits_of_the_first):
    """By hand, in tens: 1 positive at (.26, .60), 2 at (.30, 0); 2 negatives at (.5, .5), 5 at (.1, .1).

    The ensemble scores x: positives beat 5 of 7 negatives, AUROC .714, best F1 6 / 8 = .75. The pair scores
    x - y: two of three positives beat all and one none, AUROC .667, best F1 4 / 5 = .80.
    """
    kinds = np.array([[0.26, 0.60], *[[0.30, 0.0]] * 2, *[[0.5, 0.5]] * 2, *[[0.1, 0.1]] * 5])
    third = np.sqrt(1 - (kinds**2).sum(1, keepdims=True))
    images_ND = np.tile(np.concatenate([kinds, third], axis=1), (10, 1))
    targets_NC = np.tile([[1.0]] * 3 + [[0.0]] * 7, (10, 1))
    images = np.arange(len(images_ND))
    data = probe_data(
        images_ND,
        targets_NC,
        images_ND,
        targets_NC,
        val_patients_N=images,
        val_folds_N=images // 10 % 5,
        labels=("Mass",),
    )
    _, prompted = fit(inputs(data, SpaceOfThree(), objective))
    assert prompted.name == "zero-shot-prompts"
    prompted = prompted.candidate(data).predictor
    np.testing.assert_allclose(prompted.scores(images_ND[:1]), [[logits_of_the_first]], rtol=1e-5)
