"""`saliency.csv`: maps held against what people drew, with intervals and paired tests over patients.

Shape legend: H height, W width, P pairs of an image and a label that has a region there, C or L labels, B
resamples or draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.saliency.annotated import Pair
from analysis.saliency.localisation import ATLAS, CEILING, FLOORS
from scoring.effective_patients import effective_number
from scoring.intervals import average_interval, exact_interval, label_interval
from scoring.localisation import best_threshold, energy_inside, hits, ious, otsu_iou, separate_regions
from scoring.paired_tests import holm, permutation_p, sign_flips
from scoring.resampling import patient_weights, weighted_mean

RESAMPLES = 1000
DRAWS = 10_000
METRICS = {
    "hit_rate": "hit rate ↑",
    "pointing_game": "pointing game ↑",
    "miou": "mIoU ↑",
    "miou_otsu": "mIoU, Otsu ↑",
    "energy_inside": "energy inside ↑",
}
SHARES = ("hit_rate", "pointing_game")
"""Of yes and no, so that a label's interval can be exact."""
USUAL = "usual_place"
"""Share of maps that are largest where the label usually lies."""
AREAS = {"area: below 1 %": (0.0, 0.01), "area: 1 to 5 %": (0.01, 0.05), "area: over 5 %": (0.05, 1.01)}
COUNTS = {"one region": (1, 2), "two regions or more": (2, np.inf)}
FOUND, MISSED, FALSE = "true positives", "false negatives", "false positives"
STRATA = (*AREAS, *COUNTS, FOUND, MISSED, FALSE)
"""In place of a label, and in no mean over labels: regions by the share of their image, by how many lie
apart, and by what was decided."""
COLUMNS = (
    "setting",
    "metric",
    "label",
    "value",
    "low",
    "high",
    "method",
    "regions",
    "patients",
    "p",
    "p_holm",
)

Key = tuple[str, str]
"""A setting, and the method of its maps; a floor has none."""


class Scores:
    """The table as it grows: of one metric after the other a row a label and one for their mean."""

    def __init__(self, patients_P: np.ndarray, seed: int) -> None:
        """
        Args:
            patients_P: of each map, integer codes from 0 without gaps.
            seed: of the resamples.
        """
        self._patients_P = patients_P
        self._weights_PB = patient_weights(int(patients_P.max()) + 1, RESAMPLES, seed)
        self._rows: list[tuple] = []

    def add(
        self,
        key: Key,
        metric: str,
        value_P: np.ndarray,
        groups: Mapping[str, np.ndarray],
        *,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        exact: bool = False,
        tests: tuple[float, float] = (np.nan, np.nan),
    ) -> None:
        """Of each group the mean of its own values, with an interval over patients, `exact` of a share of yes
        and no; then, with an empty label, the mean over the groups that are labels and have two patients.

        Args:
            groups: label, or one of STRATA -> bool (P,), none empty.
            tests: p of the mean, and Holm's.
        """
        (setting, method), of_labels, everyone_P = key, [], np.zeros(len(value_P), dtype=bool)
        for label, own_P in groups.items():
            patients_P = self._patients_P[own_P]
            patients, value = len(np.unique(patients_P)), float(value_P[own_P].mean())
            resampled_B = weighted_mean(value_P[own_P, None], patients_P, self._weights_PB)[0]
            ends = label_interval(value, resampled_B, patients, bounds)
            if exact:
                ends = exact_interval(value, effective_number(np.bincount(patients_P)))
            counts = (int(own_P.sum()), patients)
            self._rows.append((setting, metric, label, value, *ends, method, *counts, np.nan, np.nan))
            if label not in STRATA:
                everyone_P |= own_P
                if patients >= 2:
                    of_labels.append((value, resampled_B, patients))
        if of_labels:
            value_C, resampled_CB, patients_C = (np.array(one) for one in zip(*of_labels, strict=True))
            ends = average_interval(value_C, resampled_CB, patients_C, bounds)
            counts = (int(everyone_P.sum()), len(np.unique(self._patients_P[everyone_P])))
            value = float(value_C.mean())
            self._rows.append((setting, metric, "", value, *ends, method, *counts, *tests))

    def frame(self) -> pd.DataFrame:
        """COLUMNS."""
        return pd.DataFrame(self._rows, columns=COLUMNS)


def scores(
    pairs: Sequence[Pair],
    labels: Sequence[str],
    maps: Mapping[Key, Sequence[np.ndarray]],
    seed: int,
    *,
    decided: Mapping[str, np.ndarray] | None = None,
    family: Sequence[Key] = (),
) -> pd.DataFrame:
    """COLUMNS, of each (setting, method).

    The pointing game is the hit rate at a tolerance of 0 pixels. `miou` cuts a map at the threshold that is
    best on other patients of the label, `miou_otsu` at Otsu's. `above_atlas` is the difference in hit rate
    from the location atlas, image by image.

    Args:
        decided: setting -> bool (P,), whether it decides that the label is present.
        family: whose averages are tested against the atlas, patients' maps swapped, with Holm's correction.
    """
    patients_P = np.unique([pair.patient for pair in pairs], return_inverse=True)[1]
    each = {key: _by_pair(pairs, own, patients_P) for key, own in maps.items()}
    atlas = each.get((ATLAS, ""))
    tests = _tests(pairs, labels, patients_P, each, family, seed) if atlas is not None else {}
    table = Scores(patients_P, seed)
    strata = _strata(pairs)
    for key, values in each.items():
        groups = {label: np.array([pair.label == label for pair in pairs]) for label in labels} | strata
        decided_P = (decided or {}).get(key[0])
        if decided_P is not None:
            groups |= {FOUND: decided_P, MISSED: ~decided_P}
        groups = {name: own_P for name, own_P in groups.items() if own_P.any()}
        for metric, value_P in values.items():
            table.add(key, metric, value_P, groups, exact=metric in SHARES)
        if atlas is not None and key[0] not in (*FLOORS, CEILING):
            above_P = values["hit_rate"] - atlas["hit_rate"]
            own = tests.get(key, (np.nan, np.nan))
            table.add(key, "above_atlas", above_P, groups, bounds=None, tests=own)
    return table.frame()


def _tests(
    pairs: Sequence[Pair],
    labels: Sequence[str],
    patients_P: np.ndarray,
    each: Mapping[Key, Mapping[str, np.ndarray]],
    family: Sequence[Key],
    seed: int,
) -> dict[Key, tuple[float, float]]:
    """Key -> p of its mean difference in hit rate from the atlas, and Holm's."""
    keys = [key for key in family if key in each]
    own_LP = np.stack([np.array([pair.label == label for pair in pairs]) for label in labels])
    own_LP = own_LP[[len(np.unique(patients_P[own_P])) >= 2 for own_P in own_LP]]
    if not keys or not len(own_LP):
        return {}
    share_LP = own_LP / own_LP.sum(axis=1, keepdims=True)
    p_values = []
    for key in keys:
        difference_P = each[key]["hit_rate"] - each[ATLAS, ""]["hit_rate"]
        p_values.append(
            permutation_p(*sign_flips((share_LP * difference_P).mean(axis=0), patients_P, DRAWS, seed))
        )
    return dict(zip(keys, zip(p_values, holm(p_values).tolist(), strict=True), strict=True))


def _strata(pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """Each of AREAS and COUNTS -> bool (P,)."""
    area_P = np.array([pair.mask_HW.mean() for pair in pairs])
    count_P = np.array([separate_regions(pair.mask_HW) for pair in pairs])
    return {
        name: (of_P >= low) & (of_P < high)
        for of_P, ranges in ((area_P, AREAS), (count_P, COUNTS))
        for name, (low, high) in ranges.items()
    }


def _by_pair(
    pairs: Sequence[Pair], maps: Sequence[np.ndarray], patients_P: np.ndarray
) -> dict[str, np.ndarray]:
    drawn = [(map_HW, pair.mask_HW) for map_HW, pair in zip(maps, pairs, strict=True)]
    hit_P = np.array([hits(*one) for one in drawn], dtype=float)
    ious_PT = np.stack([ious(*one) for one in drawn])
    labels_P = np.array([pair.label for pair in pairs])
    cut_P = np.zeros(len(pairs))
    for place in range(len(pairs)):
        others_P = patients_P != patients_P[place]
        same_P = others_P & (labels_P == labels_P[place])
        fitted = same_P if same_P.any() else others_P
        cut_P[place] = ious_PT[place, best_threshold(ious_PT[fitted])] if fitted.any() else np.nan
    return {
        "hit_rate": hit_P,
        "pointing_game": hit_P,
        "miou": cut_P,
        "miou_otsu": np.array([otsu_iou(*one) for one in drawn]),
        "energy_inside": np.array([energy_inside(*one) for one in drawn]),
    }
