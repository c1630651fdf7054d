"""`saliency.csv`: maps held against annotated regions, with intervals and tests over patients.

Shape legend: H height, W width, P pairs of an image and a label that has a region there, C or L labels, B
resamples or draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis.inside.saliency.annotated import Pair
from analysis.inside.saliency.localisation import ATLAS, BASELINES, CEILING
from scoring.effective_patients import effective_number
from scoring.intervals import MIN_PATIENTS, average_interval, exact_interval, label_interval
from scoring.localisation import best_threshold, energy_inside, hits, ious, otsu_iou, separate_regions
from scoring.paired_tests import holm, permutation_p, sign_flips
from scoring.permuted_matches import Matches, match_p
from scoring.resampling import patient_weights, weighted_mean

RESAMPLES = 1000
DRAWS = 10_000
SALIENCY_METRICS = {
    "hit_rate": "hit rate ↑",
    "pointing_game": "pointing game ↑",
    "miou": "mIoU ↑",
    "miou_otsu": "mIoU, Otsu ↑",
    "energy_inside": "energy inside ↑",
}
SHARES = ("hit_rate", "pointing_game")
"""Of yes and no, so that a label's interval can be exact."""
AREA = "area"
"""Share of what the encoder sees that lies in the region: the energy inside of a map that is the same
everywhere."""
ABOVE_ATLAS = "above_atlas"
"""Hit rate less that of the location atlas."""
OTHERS, ABOVE_OTHERS = "hit_rate_of_others", "above_others"
"""What the maps of other patients with the label hit in the place of a patient's own, and how much more its
own do."""
USUAL = "usual_place"
"""Share of maps that are largest where the label usually lies."""
AREAS = {"area: below 1 %": (0.0, 0.01), "area: 1 to 5 %": (0.01, 0.05), "area: over 5 %": (0.05, 1.01)}
COUNTS = {"one region": (1, 2), "two regions or more": (2, np.inf)}
FOUND, MISSED, FALSE = "true positives", "false negatives", "false positives"
ALL = "all of them"
STRATA = (ALL, *AREAS, *COUNTS, FOUND, MISSED, FALSE)
"""In place of a label, and in no mean over labels: all regions, and by the share of their image, by how many
lie apart, and by what was decided."""
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
"""A setting, and the method of its maps; a baseline has none."""


class Scores:
    """The table as it grows: of one metric after the other one row per label and one for their mean."""

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
        tests: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Of each group the mean of its own values, with an interval over patients, `exact` of a share of yes
        and no; then, with an empty label, the mean over the groups that are labels and have MIN_PATIENTS
        patients, where there is one.

        Args:
            groups: label, or one of STRATA -> bool (P,), none empty.
            tests: label, "" of the mean -> p, and Holm's.
        """
        no_test = (np.nan, np.nan)
        (setting, method), of_labels, everyone_P = key, [], np.zeros(len(value_P), dtype=bool)
        for label, own_P in groups.items():
            patients_P = self._patients_P[own_P]
            patients, value = len(np.unique(patients_P)), float(value_P[own_P].mean())
            resampled_B = weighted_mean(value_P[own_P, None], patients_P, self._weights_PB)[0]
            ends = label_interval(value, resampled_B, patients, bounds)
            if exact:
                ends = exact_interval(value, effective_number(np.bincount(patients_P)))
            counts = (int(own_P.sum()), patients)
            self._rows.append(
                (setting, metric, label, value, *ends, method, *counts, *(tests or {}).get(label, no_test))
            )
            if label not in STRATA and patients >= MIN_PATIENTS:
                everyone_P |= own_P
                of_labels.append((value, resampled_B, patients))
        if of_labels:
            value_C, resampled_CB, patients_C = (np.array(one) for one in zip(*of_labels, strict=True))
            patients = len(np.unique(self._patients_P[everyone_P]))
            ends = average_interval(value_C, resampled_CB, patients_C, patients, bounds)
            counts = (int(everyone_P.sum()), patients)
            value = float(value_C.mean())
            self._rows.append(
                (setting, metric, "", value, *ends, method, *counts, *(tests or {}).get("", no_test))
            )

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
    fits: Mapping[Key, Mapping[str, Matches]] | None = None,
) -> pd.DataFrame:
    """COLUMNS, of each (setting, method).

    The pointing game is the hit rate at a tolerance of 0 pixels. `miou` cuts a map at the threshold that is
    best on other patients of the label, `miou_otsu` at Otsu's. `above_atlas` is the difference in hit rate
    from the location atlas, image by image; `above_others` that from the maps of other patients with the
    label, laid over the image in the place of its own.

    Args:
        decided: setting -> bool (P,), whether it decides that the label is present.
        family: whose averages are tested against the atlas, patients' maps swapped. Holm's correction is over
            these and `fits` together.
        fits: label -> what each map hits on each image, in the order of `pairs`; their averages are tested
            against other patients' maps.
    """
    patients_P = np.unique([pair.patient for pair in pairs], return_inverse=True)[1]
    fits = fits or {}
    of_label = {label: np.array([pair.label == label for pair in pairs]) for label in labels}
    each = _by_pair(pairs, maps, patients_P)
    atlas = each.get((ATLAS, ""))
    tests = _tests(of_label, patients_P, each, family if atlas is not None else (), fits, seed)
    table = Scores(patients_P, seed)
    strata = {ALL: np.ones(len(pairs), dtype=bool)} | _strata(pairs)
    for key, values in each.items():
        groups = of_label | strata
        decided_P = (decided or {}).get(key[0])
        if decided_P is not None:
            groups |= {FOUND: decided_P, MISSED: ~decided_P}
        groups = {name: own_P for name, own_P in groups.items() if own_P.any()}
        for metric, value_P in values.items():
            table.add(key, metric, value_P, groups, exact=metric in SHARES)
        if atlas is not None and key[0] not in (*BASELINES, CEILING):
            above_P = values["hit_rate"] - atlas["hit_rate"]
            own = {"": tests[ABOVE_ATLAS, key]} if (ABOVE_ATLAS, key) in tests else None
            table.add(key, ABOVE_ATLAS, above_P, groups, bounds=None, tests=own)
        if key in fits:
            own = {"": tests[ABOVE_OTHERS, key]} if (ABOVE_OTHERS, key) in tests else None
            _add_others(table, key, of_label, fits[key], own)
    return table.frame()


def _add_others(
    table: Scores,
    key: Key,
    of_label: Mapping[str, np.ndarray],
    fits: Mapping[str, Matches],
    tests: Mapping[str, tuple[float, float]] | None,
) -> None:
    """OTHERS and ABOVE_OTHERS of the labels that two patients have."""
    several = {
        label: own_P for label, own_P in of_label.items() if len(np.unique(fits[label].patients_S)) > 1
    }
    others_P, above_P = np.full((2, len(next(iter(of_label.values())))), np.nan)
    for label, own_P in several.items():
        others_P[own_P] = fits[label].others()
        above_P[own_P] = fits[label].own() - fits[label].others()
    if several:
        table.add(key, OTHERS, others_P, several)
        table.add(key, ABOVE_OTHERS, above_P, several, bounds=None, tests=tests)


def _tests(
    of_label: Mapping[str, np.ndarray],
    patients_P: np.ndarray,
    each: Mapping[Key, Mapping[str, np.ndarray]],
    family: Sequence[Key],
    fits: Mapping[Key, Mapping[str, Matches]],
    seed: int,
) -> dict[tuple[str, Key], tuple[float, float]]:
    """(ABOVE_ATLAS or ABOVE_OTHERS, key) -> p of its mean over the labels that are averaged, and Holm's."""
    averaged = [
        label for label, own_P in of_label.items() if len(np.unique(patients_P[own_P])) >= MIN_PATIENTS
    ]
    if not averaged:
        return {}
    share_LP = np.stack([of_label[label] / of_label[label].sum() for label in averaged])
    found = {}
    for key in family:
        if key in each:
            difference_P = each[key]["hit_rate"] - each[ATLAS, ""]["hit_rate"]
            flips = sign_flips((share_LP * difference_P).mean(axis=0), patients_P, DRAWS, seed)
            found[ABOVE_ATLAS, key] = permutation_p(*flips)
    for key, own in fits.items():
        weights = [1 / len(averaged)] * len(averaged)
        found[ABOVE_OTHERS, key] = match_p(
            [own[label] for label in averaged], weights, draws=DRAWS, seed=seed
        )
    adjusted = holm(list(found.values())).tolist()
    return {test: (p, p_holm) for (test, p), p_holm in zip(found.items(), adjusted, strict=True)}


def _strata(pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """Each of AREAS and COUNTS -> bool (P,)."""
    shapes = [(float(mask_HW.mean()), separate_regions(mask_HW)) for mask_HW in (one.mask() for one in pairs)]
    area_P, count_P = np.array(shapes).T
    return {
        name: (of_P >= low) & (of_P < high)
        for of_P, ranges in ((area_P, AREAS), (count_P, COUNTS))
        for name, (low, high) in ranges.items()
    }


def _by_pair(
    pairs: Sequence[Pair], maps: Mapping[Key, Sequence[np.ndarray]], patients_P: np.ndarray
) -> dict[Key, dict[str, np.ndarray]]:
    """Key -> metric -> float64 (P,). One map at a time is laid over its image."""
    rows: dict[Key, list[tuple[float, ...]]] = {key: [] for key in maps}
    ious_PT: dict[Key, list[np.ndarray]] = {key: [] for key in maps}
    for place, pair in enumerate(tqdm(pairs, desc="scoring", unit="region", disable=None, leave=False)):
        mask_HW = pair.mask()
        for key, own in maps.items():
            map_HW = own[place]
            seen_HW = np.isfinite(map_HW)
            rows[key].append(
                (
                    hits(map_HW, mask_HW),
                    otsu_iou(map_HW, mask_HW),
                    energy_inside(map_HW, mask_HW),
                    seen_HW[mask_HW].sum() / max(int(seen_HW.sum()), 1),
                )
            )
            ious_PT[key].append(ious(map_HW, mask_HW))
    labels_P = np.array([pair.label for pair in pairs])
    found = {}
    for key in maps:
        hit_P, otsu_P, energy_P, area_P = np.array(rows[key], dtype=np.float64).T
        found[key] = {
            "hit_rate": hit_P,
            "pointing_game": hit_P,
            "miou": _cut_elsewhere(np.stack(ious_PT[key]), labels_P, patients_P),
            "miou_otsu": otsu_P,
            "energy_inside": energy_P,
            AREA: area_P,
        }
    return found


def _cut_elsewhere(ious_PT: np.ndarray, labels_P: np.ndarray, patients_P: np.ndarray) -> np.ndarray:
    """float64 (P,): at the threshold that is best on other patients of the label, or of any where there are
    none; NaN of a single patient."""
    cut_P = np.full(len(ious_PT), np.nan)
    for place in range(len(ious_PT)):
        others_P = patients_P != patients_P[place]
        same_P = others_P & (labels_P == labels_P[place])
        fitted = same_P if same_P.any() else others_P
        if fitted.any():
            cut_P[place] = ious_PT[place, best_threshold(ious_PT[fitted])]
    return cut_P
