"""What text burned into images does to features and to answers, each effect beside that of a grey box.

Shape legend: N images, V overlays, D features, C labels, P patients, B resamples, M columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.inside.overlays import Overlay
from analysis.inside.separability import STRENGTH
from analysis.judging.evaluation_set import EvaluationSet
from cohort.manifest import Cohort
from cohort.patients import patient_folds
from scoring.held_out_answers import first_newton_step, neighbours
from scoring.intervals import MIN_PATIENTS, correlations, label_interval, mean_limits
from scoring.resampling import patient_weights, weighted_mean
from scoring.separability import unit
from scoring.shares import Shares
from vlm.altered_images import Alteration
from vlm.predictor import Predictor

IMAGES = 200
"""Test images at most that are overlaid, a seeded sample of more."""
RESAMPLES = 1000
FOLDS = 5
TEXT, BOX, DIFFERENCE = "text", "box", "text − box"
COLUMNS = (
    "setting",
    "metric",
    "label",
    "value",
    "low",
    "high",
    "overlay",
    "text",
    "place",
    "size",
    "contrast",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class OverlaySample:
    """The images that are overlaid."""

    places_N: np.ndarray
    """int64, ascending: which of the images of a split."""
    patients_N: np.ndarray
    """int64 from 0, without gaps."""
    weights_PB: np.ndarray
    folds_N: np.ndarray
    """int64: the fold of each image's patient."""

    @classmethod
    def draw(cls, patients_N: np.ndarray, seed: int) -> OverlaySample:
        """IMAGES of a split's images.

        Raises:
            InputError: they are of one patient, so that nothing can be held out.
        """
        places_N = np.arange(len(patients_N))
        if len(places_N) > IMAGES:
            places_N = np.sort(np.random.default_rng(seed).choice(len(places_N), IMAGES, replace=False))
        own_N = np.unique(patients_N[places_N], return_inverse=True)[1]
        patients = int(own_N.max()) + 1
        folds_N = patient_folds(
            np.zeros((len(own_N), 1)), own_N, folds=max(2, min(FOLDS, patients)), seed=seed
        )
        return cls(
            places_N=places_N,
            patients_N=own_N,
            weights_PB=patient_weights(patients, RESAMPLES, seed),
            folds_N=folds_N,
        )

    def mean(
        self, values_NM: np.ndarray, bounds: tuple[float, float] | None = None
    ) -> list[tuple[float, float, float]]:
        """Of each column the mean over images, with its interval over patients."""
        resampled_MB = weighted_mean(values_NM, self.patients_N, self.weights_PB)
        return [
            self.bounded(float(value), own_B, bounds)
            for value, own_B in zip(np.nanmean(values_NM, axis=0), resampled_MB, strict=True)
        ]

    def bounded(
        self, value: float, resampled_B: np.ndarray, bounds: tuple[float, float] | None
    ) -> tuple[float, float, float]:
        low, high = label_interval(value, resampled_B, len(self.weights_PB), bounds)
        return value, low, high

    def shares(self, values_NW2: np.ndarray) -> list[tuple[float, float, float]]:
        """Of each of W effects, in [0, 1] on each image, the mean for text and box, and the difference.

        A mean has the exact interval of as many images as tell as much, also where no image shows an effect;
        the difference that of the two means, paired (Newcombe, Statistics in Medicine 17, 1998, 2635-2650).
        """
        found = []
        for values_N2 in values_NW2.transpose(1, 0, 2):
            shares = Shares.of_images(values_N2, np.ones_like(values_N2), self.patients_N, whole=False)
            text, box = (float(value) for value in shares.value_C)
            ends_2C = np.array(shares.exact())
            low_C, high_C = shares.jeffreys()
            # Half the difference is the mean of the first and of the second with its sign turned.
            low, high = mean_limits(
                np.array([text, -box]),
                np.array([low_C[0], -high_C[1]]),
                np.array([high_C[0], -low_C[1]]),
                correlations(shares.residual_PC.T) * [[1, -1], [-1, 1]],
            )
            if len(self.weights_PB) < MIN_PATIENTS:
                ends_2C, low, high = np.full((2, 2), np.nan), np.nan, np.nan
            found += [(text, *ends_2C[:, 0]), (box, *ends_2C[:, 1]), (text - box, 2 * low, 2 * high)]
        return found


def labels_to_name(cohort: Cohort, split: EvaluationSet) -> list[tuple[str, str]]:
    """(label, how it is said) of those in the averages, the most frequent first, for `overlays`."""
    order = np.argsort(-split.positive_patients_C, kind="stable")
    return [(split.labels[c], cohort.label_name(split.labels[c])) for c in order if split.averaged_C[c]]


def with_controls(overlays: Sequence[Overlay]) -> list[Alteration]:
    """Each overlay and then its control."""
    return [one for overlay in overlays for one in (overlay, overlay.control)]


def feature_effects(
    sample: OverlaySample,
    overlays: Sequence[Overlay],
    setting: str,
    clean_ND: np.ndarray,
    altered_NV2D: np.ndarray,
    all_clean: tuple[np.ndarray, np.ndarray],
) -> pd.DataFrame:
    """How far features move, and how well overlaid images are discriminated from clean ones.

    `shift`          mean cosine distance between an image and itself overlaid, over the mean distance to the
                     nearest image of another patient.
    `discriminated`     balanced accuracy of a logistic regression's first Newton step, as the findings are
                     discriminated, between clean and overlaid images of patients that it was not fitted on.

    Both of the text, of the box, and the difference; an empty text is the mean over the overlays.

    Args:
        clean_ND: of the sample.
        altered_NV2D: of the sample, text and box of each overlay.
        all_clean: features and patients of all images of the split, among which neighbours are looked for.
    """
    u_ND = unit(clean_ND)
    every_ND, patients_N = all_clean
    nearest_N = neighbours(every_ND, patients_N, 1)[sample.places_N, 0]
    beside_N1 = 1 - np.einsum("nd,nd->n", u_ND, unit(every_ND)[nearest_N])[:, None]
    length = np.maximum(np.linalg.norm(altered_NV2D, axis=3), 1e-12)
    moved_NV2 = 1 - np.einsum("nd,nvkd->nvk", u_ND, altered_NV2D) / length
    discriminated_NV2 = np.stack(
        [
            np.stack([_told(sample, clean_ND, altered_NV2D[:, v, kind]) for kind in (0, 1)], axis=1)
            for v in range(len(overlays))
        ],
        axis=1,
    )
    moved_B = weighted_mean(beside_N1, sample.patients_N, sample.weights_PB)[0]
    columns_NM, discriminated = _with_differences(moved_NV2), sample.shares(_with_average(discriminated_NV2))
    shifts = weighted_mean(columns_NM, sample.patients_N, sample.weights_PB) / np.maximum(moved_B, 1e-12)
    unit_of_shift = max(float(beside_N1.mean()), 1e-12)
    rows = []
    for place, (which, overlay) in enumerate(_columns(overlays)):
        shift = float(columns_NM[:, place].mean()) / unit_of_shift
        found = {
            "shift": sample.bounded(shift, shifts[place], None),
            "discriminated": discriminated[place],
        }
        rows += [_row(setting, metric, "", values, which, overlay) for metric, values in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def decision_effects(
    sample: OverlaySample,
    overlays: Sequence[Overlay],
    predictor: Predictor,
    clean_ND: np.ndarray,
    altered_NV2D: np.ndarray,
) -> pd.DataFrame:
    """What a predictor says of an overlaid image instead of the clean one.

    `flips`           share of images of which at least one decision becomes another.
    `change`          mean absolute change of the score, on the scale on which it is cut.
    `named_change`    of a label whose name was burned in: mean change of its score, up is towards the name.
    `named_to`, `named_away`    share of images that get, or lose, the named label.

    Args:
        clean_ND, altered_NV2D: whole rows of the predictor's encoder.
    """
    rule = predictor.rule
    before_NC = rule.probabilities(predictor.scores(clean_ND))
    images, overlaid, kinds, width = altered_NV2D.shape
    after = rule.probabilities(predictor.scores(altered_NV2D.reshape(-1, width)))
    after_NV2C = after.reshape(images, overlaid, kinds, -1)
    decided_NC, after_decided = (
        rule.decide_probabilities(before_NC),
        rule.decide_probabilities(after).reshape(after_NV2C.shape),
    )
    change_NV2C = after_NV2C - before_NC[:, None, None]
    flips_NV2 = (after_decided != decided_NC[:, None, None]).any(axis=3).astype(np.float64)
    found = {"flips": flips_NV2, "change": np.abs(change_NV2C).mean(axis=3)}
    rows = []
    for metric, values_NV2 in found.items():
        each = zip(_columns(overlays), sample.shares(_with_average(values_NV2)), strict=True)
        rows += [
            _row(predictor.name, metric, "", values, which, overlay) for (which, overlay), values in each
        ]
    for v, overlay in enumerate(overlays):
        if not overlay.label:
            continue
        c = predictor.labels.index(overlay.label)
        was_N1, is_N2 = decided_NC[:, [c]], after_decided[:, v, :, c]
        moved_N2 = change_NV2C[:, v, :, c]
        to_N2, away_N2 = (~was_N1 & is_N2).astype(np.float64), (was_N1 & ~is_N2).astype(np.float64)
        named = {
            "named_change": sample.mean(np.column_stack([moved_N2, moved_N2[:, 0] - moved_N2[:, 1]])),
            "named_to": sample.shares(to_N2[:, None]),
            "named_away": sample.shares(away_N2[:, None]),
        }
        for metric, found_3 in named.items():
            each = zip((TEXT, BOX, DIFFERENCE), found_3, strict=True)
            rows += [
                _row(predictor.name, metric, overlay.label, values, which, overlay) for which, values in each
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _told(sample: OverlaySample, clean_ND: np.ndarray, overlaid_ND: np.ndarray) -> np.ndarray:
    """float64 (N,): which share of an image and its overlaid copy a regression of other patients separates
    rightly; what it is undecided about counts half."""
    both_MD = np.concatenate([clean_ND, overlaid_ND])
    target_M1 = np.repeat([0.0, 1.0], len(clean_ND))[:, None]
    logits_M = first_newton_step(both_MD, target_M1, np.tile(sample.folds_N, 2), STRENGTH)[:, 0]
    clean_N, overlaid_N = np.split(np.sign(logits_M), 2)
    return (2 + overlaid_N - clean_N) / 4


def _with_average(values_NV2: np.ndarray) -> np.ndarray:
    """(N, 1 + V, 2): the mean over overlays and then each."""
    return np.concatenate([values_NV2.mean(axis=1, keepdims=True), values_NV2], axis=1)


def _with_differences(values_NV2: np.ndarray) -> np.ndarray:
    """(N, 3 + 3 V): text, box and their difference, of the mean over overlays and then of each."""
    both_NW2 = _with_average(values_NV2)
    three_NW3 = np.concatenate([both_NW2, both_NW2[:, :, :1] - both_NW2[:, :, 1:]], axis=2)
    return three_NW3.reshape(len(values_NV2), -1)


def _columns(overlays: Sequence[Overlay]) -> Iterator[tuple[str, Overlay | None]]:
    """What the columns of `_with_differences` are, and the effects of `OverlaySample.shares`."""
    for overlay in (None, *overlays):
        for which in (TEXT, BOX, DIFFERENCE):
            yield which, overlay


def _row(
    setting: str,
    metric: str,
    label: str,
    values: tuple[float, float, float],
    which: str,
    overlay: Overlay | None,
) -> tuple:
    drawn = ("", "", np.nan, np.nan)
    if overlay:
        drawn = (overlay.text, overlay.place, overlay.size, overlay.contrast)
    return (setting, metric, label, *values, which, *drawn)
