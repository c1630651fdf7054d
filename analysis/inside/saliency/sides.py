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

from analysis.inside.saliency.localisation import ATLAS
from analysis.inside.saliency.scores import ALL, DRAWS, Key, Scores
from cohort.manifest import Cohort
from scoring.intervals import MIN_PATIENTS
from scoring.paired_tests import holm
from scoring.permuted_matches import Matches, match_p

SITES = "keep.sites"
SIDES = ("right", "left")
"""From an image's left to its right."""
ZONES = {"upper": (0.0, 0.37), "middle": (0.37, 0.55), "lower": (0.55, 1.01)}
"""Where the lungs' thirds lie on a frontal radiograph, in shares of its height from the top."""
SIDE, ZONE = "right_side", "right_zone"
BY_CHANCE, ABOVE_CHANCE = "side_by_chance", "side_above_chance"


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
    *,
    family: Sequence[Key] = (),
) -> pd.DataFrame:
    """Rows of `saliency.csv`: `right_side` and `right_zone`, the share of maps that lie where the report
    says, most of their mass on the side, their centre of mass in the zone; of the atlas, where the label lies
    on most other patients.

    `side_by_chance` is the share that the same maps reach where each patient's statement is that of another
    patient with the label: maps that always lie on one side are right as often as that side is stated. Over
    all statements of labels that two patients have, the share is tested against it, statements permuted among
    patients within each label; not where fewer than MIN_PATIENTS patients have a left side stated, or a right
    one.

    Args:
        stated: what the maps are held against, one map each.
        development: of other patients.
        labels: in the order of the table.
        family: whose sides are tested, with Holm's correction.
    """
    guesses = {key: [(side_of(one), zone_of(one)) for one in own] for key, own in maps.items()}
    guesses[ATLAS, ""] = [_usual(development, one.label) for one in stated]
    patients_S = np.unique([one.patient for one in stated], return_inverse=True)[1]
    table = Scores(patients_S, seed)
    several = _of_several_patients(stated, patients_S, labels)
    if several:
        fits = {
            key: {label: _fits(stated, guesses[key], patients_S, own_S) for label, own_S in several.items()}
            for key in maps
        }
        p = _tests(fits, stated, [key for key in family if key in fits], seed)
        everyone_S = np.logical_or.reduce(list(several.values()))
        for key, own in fits.items():
            chance_S, above_S = np.full((2, len(stated)), np.nan)
            for label, own_S in several.items():
                chance_S[own_S] = own[label].others()
                above_S[own_S] = own[label].own() - own[label].others()
            groups = several | {ALL: everyone_S}
            table.add(key, BY_CHANCE, chance_S, groups)
            table.add(
                key, ABOVE_CHANCE, above_S, groups, bounds=None, tests={ALL: p[key]} if key in p else None
            )
    for place, metric in enumerate((SIDE, ZONE)):
        truths = [(one.side, one.zone)[place] for one in stated]
        known_S = np.array([truth != "" for truth in truths])
        groups = {label: known_S & [one.label == label for one in stated] for label in labels}
        groups = {label: own_S for label, own_S in groups.items() if own_S.any()}
        if groups:
            groups[ALL] = np.logical_or.reduce(list(groups.values()))
        for key, guessed in guesses.items():
            right = [guess[place] == truth for guess, truth in zip(guessed, truths, strict=True)]
            if groups:
                table.add(key, metric, np.array(right, dtype=float), groups, exact=True)
    return table.frame()


def _of_several_patients(
    stated: Sequence[Statement], patients_S: np.ndarray, labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """Label -> bool (S,), of labels that two patients have: one patient has no other to compare with."""
    groups = {label: np.array([one.label == label for one in stated]) for label in labels}
    return {label: own_S for label, own_S in groups.items() if len(np.unique(patients_S[own_S])) > 1}


def _fits(
    stated: Sequence[Statement],
    guessed: Sequence[tuple[str, str]],
    patients_S: np.ndarray,
    own_S: np.ndarray,
) -> Matches:
    """Whether each map (column) lies on the side of each statement (row) of a label."""
    said = np.array([one.side for one in stated])[own_S]
    lies = np.array([side for side, _ in guessed])[own_S]
    return Matches(fits_SS=(said[:, None] == lies).astype(float), patients_S=patients_S[own_S])


def _tests(
    fits: Mapping[Key, Mapping[str, Matches]], stated: Sequence[Statement], family: Sequence[Key], seed: int
) -> dict[Key, tuple[float, float]]:
    """Key -> p of its share over all these statements against chance, and Holm's."""
    if fewer_sided(stated) < MIN_PATIENTS:
        return {}
    p_values = []
    for key in family:
        each = list(fits[key].values())
        statements_of = [len(one.patients_S) for one in each]
        weights = [count / sum(statements_of) for count in statements_of]
        p_values.append(match_p(each, weights, draws=DRAWS, seed=seed))
    return dict(zip(family, zip(p_values, holm(p_values).tolist(), strict=True), strict=True))


def fewer_sided(stated: Sequence[Statement]) -> int:
    """The patients with the left side stated of some label, or those with the right one, whichever are
    fewer."""
    return min(len({one.patient for one in stated if one.side == side}) for side in SIDES)


def _usual(development: Sequence[Statement], label: str) -> tuple[str, str]:
    """Where the label lies most often on other patients; of equally frequent ones the first of the tuple."""
    sides = Counter(one.side for one in development if one.label == label)
    zones = Counter(one.zone for one in development if one.label == label and one.zone)
    return max(SIDES, key=sides.__getitem__), max(ZONES, key=zones.__getitem__)
