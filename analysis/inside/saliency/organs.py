"""How much of a map lies inside an organ, whatever label it is of: `saliency_organs.csv`.

An organ's mask says nothing of where a finding is, only where it may be: a hit is nothing there, and the
energy inside is held against the organ's share of what the encoder sees, which a map that is the same
everywhere has inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.inside.saliency.annotated import Pair
from analysis.inside.saliency.scores import ALL, AREA, Key, Scores
from analysis.number_format import counted, score, signed
from analysis.section import Cell, Row, Table
from cohort.manifest import Cohort
from scoring.intervals import MIN_PATIENTS
from scoring.localisation import energy_inside

ENERGY, ABOVE_AREA = "energy_inside", "energy_above_area"


def scores(
    organ: str,
    pairs: Sequence[Pair],
    maps: Mapping[Key, Sequence[np.ndarray]],
    labels: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """Rows of `saliency_organs.csv`: the column `organ` and those of `saliency.csv`, of each label, of all
    and of the mean over labels with MIN_PATIENTS patients: the energy inside, the organ's area, and the
    difference."""
    patients_P = np.unique([pair.patient for pair in pairs], return_inverse=True)[1]
    groups = {label: np.array([pair.label == label for pair in pairs]) for label in labels}
    groups = {label: own_P for label, own_P in groups.items() if own_P.any()}
    groups[ALL] = np.ones(len(pairs), dtype=bool)
    inside = {key: np.full((2, len(pairs)), np.nan) for key in maps}
    for place, pair in enumerate(pairs):
        mask_HW = pair.mask()
        for key, own in maps.items():
            map_HW = own[place]
            seen_HW = np.isfinite(map_HW)
            share = seen_HW[mask_HW].sum() / max(int(seen_HW.sum()), 1)
            inside[key][:, place] = energy_inside(map_HW, mask_HW), share
    table = Scores(patients_P, seed)
    for key, (energy_P, area_P) in inside.items():
        table.add(key, ENERGY, energy_P, groups)
        table.add(key, AREA, area_P, groups)
        table.add(key, ABOVE_AREA, energy_P - area_P, groups, bounds=None)
    frame = table.frame()
    frame.insert(0, "organ", organ)
    return frame


def sentences(table: pd.DataFrame, organ: str, cohort: Cohort, key: Key) -> list[str]:
    """One a label that MIN_PATIENTS patients have, and one on the others."""
    own = _of(table, organ, key)
    said, few = [], 0
    for label in _labels(own):
        energy, area, above = (own.loc[(metric, label)] for metric in (ENERGY, AREA, ABOVE_AREA))
        if energy["patients"] < MIN_PATIENTS:
            few += 1
            continue
        said.append(
            f"{cohort.label_name(label)} ({counted(int(energy['regions']), 'image')} of "
            f"{counted(int(energy['patients']), 'test patient')}): {score(energy['value'])} of the maps' "
            f"energy lies inside the {organ}, which take {score(area['value'])} of what the encoder sees: "
            f"{signed(above['value'])} ({signed(above['low'])} to {signed(above['high'])})."
        )
    if few:
        said.append(
            f"{counted(few, 'label')} with the {organ} annotated on fewer than {MIN_PATIENTS} test patients: "
            "in the table alone."
        )
    return said


def by_label(table: pd.DataFrame, organ: str, cohort: Cohort, keys: Sequence[Key]) -> Table:
    """The energy inside of each label under each setting, beside the organ's area."""
    each = {key: _of(table, organ, key) for key in keys}
    first = each[keys[0]]
    rows = []
    for label in [*_labels(first), ALL]:
        counts, area = first.loc[(ENERGY, label)], first.loc[(AREA, label)]
        small = f"{counted(int(counts['regions']), 'image')} of {counted(int(counts['patients']), 'patient')}"
        cells = [Cell.of_score(own.loc[(ENERGY, label)]) for own in each.values()]
        rows.append(
            Row(
                cells=[Cell(text=cohort.label_name(label), small=small), *cells, score(area["value"])],
                rule=label == ALL,
            )
        )
    return Table(
        columns=["label", *(f"{setting}: energy inside" for setting, _ in keys), "the organ's area"],
        rows=rows,
        title=f"Inside the {organ}",
        wide=True,
    )


def _of(table: pd.DataFrame, organ: str, key: Key) -> pd.DataFrame:
    own = table[(table["organ"] == organ) & (table["setting"] == key[0]) & (table["method"] == key[1])]
    return own.set_index(["metric", "label"])


def _labels(own: pd.DataFrame) -> list[str]:
    """By number of patients, the most first."""
    counts = own.loc[ENERGY]["patients"].drop(["", ALL], errors="ignore")
    return counts.sort_values(ascending=False, kind="stable").index.tolist()
