"""On which side, and at which height, a map lies, held against what reports say: hundreds of statements where
nobody drew anything.

A cohort says so in its kept column `sites`: `Lung Opacity:left:lower;Fracture:right:`, as the reader of
IU-Xray takes it from the MeSH annotation and the sample from what it drew. A statement counts where all that
is said of a label on an image names one side. Sides are the patient's, whose right is on a frontal
radiograph's left.

Shape legend: H height, W width, S statements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.saliency.localisation import ATLAS
from analysis.saliency.scores import Key, Scores
from cohort.manifest import Cohort

SITES = "keep.sites"
SIDES = ("right", "left")
"""From an image's left to its right."""
ZONES = {"upper": (0.0, 0.37), "middle": (0.37, 0.55), "lower": (0.55, 1.01)}
"""Where the lungs' thirds lie on a frontal radiograph, in shares of its height from the top."""
SIDE, ZONE = "right_side", "right_zone"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Where a report says that a finding lies."""

    row: int
    """The image's place in the cohort."""
    label: str
    patient: int
    side: str
    """One of SIDES."""
    zone: str
    """One of ZONES; empty where none, or several, are named."""


def statements(cohort: Cohort, rows_N: np.ndarray) -> list[Statement]:
    """Of these images; none where the cohort does not say."""
    if SITES not in cohort.present.column_names:
        return []
    sites, patients_N = cohort.column(SITES), cohort.patients_N()
    found = []
    for row in rows_N:
        said: dict[str, list[list[str]]] = {}
        for site in str(sites[row] or "").split(";"):
            label, *where = site.split(":")
            if label in cohort.labels and len(where) == 2:
                said.setdefault(label, []).append(where)
        for label, places in said.items():
            sides = {side for side, _ in places if side}
            zones = {zone for _, zone in places if zone}
            if len(sides) == 1 and sides <= set(SIDES):
                found.append(
                    Statement(
                        row=int(row),
                        label=label,
                        patient=int(patients_N[row]),
                        side=sides.pop(),
                        zone=zones.pop() if len(zones) == 1 and zones <= set(ZONES) else "",
                    )
                )
    return found


def side_of(map_HW: np.ndarray) -> str:
    """On which half of the image most of a map lies; empty where neither has more."""
    by_column = np.nan_to_num(map_HW).clip(min=0).sum(axis=0)
    halves = [float(half.sum()) for half in np.array_split(by_column, 2)]
    return "" if halves[0] == halves[1] else SIDES[int(np.argmax(halves))]


def zone_of(map_HW: np.ndarray) -> str:
    """In which of ZONES a map's centre of mass lies; empty where it has none."""
    by_row = np.nan_to_num(map_HW).clip(min=0).sum(axis=1)
    if not by_row.sum() > 0:
        return ""
    height = float((by_row * (np.arange(len(by_row)) + 0.5)).sum() / by_row.sum() / len(by_row))
    return next(zone for zone, (low, high) in ZONES.items() if low <= height < high)


def scores(
    stated: Sequence[Statement],
    development: Sequence[Statement],
    maps: Mapping[Key, Sequence[np.ndarray]],
    labels: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """Rows of `saliency.csv`: `right_side` and `right_zone`, the share of maps that lie where the report
    says, most of their mass on the side, their centre of mass in the zone; of the atlas, where the label lies
    on most other patients.

    Args:
        stated: what the maps are held against, one map each.
        development: of other patients.
        labels: in the order of the table.
    """
    guesses = {key: [(side_of(one), zone_of(one)) for one in own] for key, own in maps.items()}
    guesses[ATLAS, ""] = [_usual(development, one.label) for one in stated]
    patients_S = np.unique([one.patient for one in stated], return_inverse=True)[1]
    table = Scores(patients_S, seed)
    for place, metric in enumerate((SIDE, ZONE)):
        truths = [(one.side, one.zone)[place] for one in stated]
        known_S = np.array([truth != "" for truth in truths])
        groups = {label: known_S & [one.label == label for one in stated] for label in labels}
        groups = {label: own_S for label, own_S in groups.items() if own_S.any()}
        for key, guessed in guesses.items():
            right = [guess[place] == truth for guess, truth in zip(guessed, truths, strict=True)]
            if groups:
                table.add(key, metric, np.array(right, dtype=float), groups, exact=True)
    return table.frame()


def _usual(development: Sequence[Statement], label: str) -> tuple[str, str]:
    """Where the label lies most often on other patients; of equally frequent ones the first of the tuple."""
    sides = Counter(one.side for one in development if one.label == label)
    zones = Counter(one.zone for one in development if one.label == label and one.zone)
    return max(SIDES, key=sides.__getitem__), max(ZONES, key=zones.__getitem__)
