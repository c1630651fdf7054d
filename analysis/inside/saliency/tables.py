"""Maps and annotated regions, in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.inside.saliency import sides
from analysis.inside.saliency.annotated import between_raters
from analysis.inside.saliency.localisation import ATLAS, BASELINES, CEILING, Localisation
from analysis.inside.saliency.scores import (
    ABOVE_ATLAS,
    ABOVE_OTHERS,
    ALL,
    AREA,
    FALSE,
    FOUND,
    MISSED,
    OTHERS,
    SALIENCY_METRICS,
    STRATA,
    USUAL,
    Key,
)
from analysis.number_format import NONE, counted, p_text, score, signed
from analysis.section import Cell, Row, Table
from cohort.manifest import Cohort
from scoring.intervals import MIN_PATIENTS

METRICS_OF_SIDES = {sides.SIDE: "side", sides.BY_CHANCE: "side by chance", sides.ZONE: "zone"}
"""Metric -> column."""
LEARNT = 0.5
"""Rank correlation with the maps of redrawn weights below which a map shows what the model has learnt."""


def each_label(table: pd.DataFrame, cohort: Cohort, key: Key) -> list[str]:
    """A sentence on each label that MIN_PATIENTS patients have, the most first, and one on the others."""
    own = table[(table["setting"] == key[0]) & (table["method"] == key[1])].set_index(["metric", "label"])
    atlas = table[table["setting"] == ATLAS].set_index(["metric", "label"])
    said, few = [], []
    for label in by_patients(table):
        hit, area = own.loc[("hit_rate", label)], own.loc[(AREA, label)]
        name, patients = cohort.label_name(label), int(hit["patients"])
        if patients < MIN_PATIENTS:
            few.append(f"{name} ({patients})")
            continue
        inside, usual = own.loc[("energy_inside", label)], atlas.loc[("hit_rate", label)]
        said.append(
            f"{name}: on {counted(int(hit['regions']), 'image')} of {counted(patients, 'test patient')} the "
            f"maps of {key[0]} ({key[1]}) hit {_with_ends(hit)}, an atlas of where the label lies on other "
            f"patients {_with_ends(usual)}; {_with_ends(inside)} of their energy lies inside, by chance "
            f"{score(area['value'], 2)}, the regions' share of what the encoder sees."
        )
    if few:
        said.append(
            f"Fewer than {MIN_PATIENTS} test patients have regions of {', '.join(few)}: counts in the table, "
            "no claim, and no part in an average."
        )
    return said


def by_patients(table: pd.DataFrame) -> list[str]:
    """The labels by number of patients with a region, the most first."""
    own = table[(table["metric"] == "hit_rate") & ~table["label"].isin(["", *STRATA])]
    counts = own.drop_duplicates("label").set_index("label")["patients"]
    return counts.sort_values(ascending=False, kind="stable").index.tolist()


def averaged(table: pd.DataFrame) -> list[str]:
    """The labels that an average is over, by number of patients."""
    own = table[table["metric"] == "hit_rate"].drop_duplicates("label").set_index("label")["patients"]
    return [label for label in by_patients(table) if own[label] >= MIN_PATIENTS]


def average(table: pd.DataFrame, cohort: Cohort, key: Key, with_atlas: Key) -> str:
    """What the maps of `key` hit beside the atlas, and whether they know of the image what other patients'
    maps do not; without a label that MIN_PATIENTS patients have, that there is no average."""
    averages, over = _averages(table), averaged(table)
    if not over:
        return f"No label has regions of {MIN_PATIENTS} test patients: nothing is averaged or claimed."
    where = (
        f"On average over {len(over)} labels" if len(over) > 1 else f"On {cohort.label_name(over[0])} alone"
    )
    mine, atlas = averages.loc[(*key, "hit_rate")], averages.loc[(ATLAS, "", "hit_rate")]
    said = (
        f"{where} the maps hit {_with_ends(mine)}, the atlas {_with_ends(atlas)}: "
        f"{_difference(averages.loc[(*key, ABOVE_ATLAS)])}."
    )
    if (*with_atlas, ABOVE_OTHERS) in averages.index:
        both, others = averages.loc[(*with_atlas, "hit_rate")], averages.loc[(*with_atlas, OTHERS)]
        added = averages.loc[(*with_atlas, ABOVE_OTHERS)]
        said += (
            f" Each map times the atlas hits {_with_ends(both)}; with the maps of other patients with the "
            f"label in the place of a patient's own it is {score(others['value'], 2)}: {_difference(added)}"
        )
        more = added["p_holm"] < 0.05 and added["value"] > 0
        said += (
            ": the map knows of the image what the atlas cannot."
            if more
            else ": that the map knows of the image what the atlas cannot is not shown."
        )
    return said


def _difference(row: pd.Series) -> str:
    ends = f" ({signed(row['low'])} to {signed(row['high'])})" if np.isfinite(row["low"]) else ""
    tested = f", Holm {p_text(row['p_holm'])}" if np.isfinite(row["p_holm"]) else ""
    return signed(row["value"]) + ends + tested


def _averages(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["label"] == ""].set_index(["setting", "method", "metric"])


def _with_ends(row: pd.Series) -> str:
    if not np.isfinite(row["low"]):
        return score(row["value"], 2)
    return f"{score(row['value'], 2)} ({score(row['low'], 2)} to {score(row['high'], 2)})"


def averages(table: pd.DataFrame, best: Key) -> Table:
    """Each setting's and baseline's means over labels. The pointing game, which at a tolerance of 0 pixels is
    the hit rate, stands in `saliency.csv` alone."""
    found = _averages(table)
    keys = list(dict.fromkeys((setting, method) for setting, method, _ in found.index))
    shown = {metric: title for metric, title in SALIENCY_METRICS.items() if metric != "pointing_game"}
    rows = []
    for place, (setting, method) in enumerate(keys):
        cells: list[Cell | str] = [Cell(text=setting, small=method)]
        for metric in shown:
            row = found.loc[(setting, method, metric)]
            cells.append(Cell.of_score(row) if np.isfinite(row["value"]) else NONE)
        if (setting, method, ABOVE_ATLAS) in found.index:
            above = found.loc[(setting, method, ABOVE_ATLAS)]
            tested = f"Holm {p_text(above['p_holm'])}" if np.isfinite(above["p_holm"]) else ""
            cells.append(Cell(text=signed(above["value"]), small=tested))
        else:
            cells.append("")
        baseline = setting in (*BASELINES, CEILING)
        kind = "quiet" if baseline else "best" if (setting, method) == best else ""
        first_of_trials = not baseline and place and keys[place - 1][0] in (*BASELINES, CEILING)
        rows.append(Row(cells=cells, kind=kind, rule=bool(first_of_trials)))
    return Table(columns=["maps of", *shown.values(), "hits − atlas"], rows=rows, wide=True)


def by_decision(table: pd.DataFrame, key: Key) -> str:
    """What the maps hit where the label was decided for and where it was missed; empty where nothing was
    decided."""
    own = table[(table["setting"] == key[0]) & (table["method"] == key[1])].set_index(["metric", "label"])
    said = []
    for what, where in ((FOUND, "whose label it decides for"), (MISSED, "whose label it misses")):
        if ("hit_rate", what) in own.index:
            hit, above = own.loc[("hit_rate", what)], own.loc[(ABOVE_ATLAS, what)]
            said.append(
                f"on the {counted(int(hit['regions']), 'region')} {where} {_with_ends(hit)} "
                f"({signed(above['value'])} against the atlas there)"
            )
    return f"The maps hit {', and '.join(said)}." if said else ""


def by_label(table: pd.DataFrame, cohort: Cohort, keys: Sequence[Key], best: Key) -> Table:
    """The hit rate of each label, and what of the energy of `best` lies inside beside the region's area."""
    hit = table[table["metric"] == "hit_rate"].set_index(["setting", "method", "label"])
    own = table[(table["setting"] == best[0]) & (table["method"] == best[1])].set_index(["metric", "label"])
    keys, labels = [key for key in keys if (*key, ALL) in hit.index], by_patients(table)
    rows = []
    for label in [*labels, ALL]:
        counts = hit.loc[(*keys[0], label)]
        carries = label != ALL and counts["patients"] >= MIN_PATIENTS
        small = f"{counted(int(counts['regions']), 'image')} of {counted(int(counts['patients']), 'patient')}"
        rows.append(
            Row(
                cells=[
                    Cell(text=cohort.label_name(label), small=small),
                    *(Cell.of_score(hit.loc[(*key, label)], 2) for key in keys),
                    Cell.of_score(own.loc[("energy_inside", label)], 2),
                    score(own.loc[(AREA, label), "value"], 2),
                ],
                kind="best" if carries else "quiet",
                rule=label == ALL,
            )
        )
    return Table(
        columns=["label", *(f"{_named(key)}: hit rate ↑" for key in keys), "energy inside ↑", "by chance"],
        rows=rows,
        title="Each label",
        wide=True,
    )


def by_stratum(table: pd.DataFrame, keys: Sequence[Key]) -> Table:
    """The hit rate by size, number of regions and decision; one that only decisions make has no atlas of its
    own."""
    hit = table[table["metric"] == "hit_rate"].set_index(["setting", "method", "label"])
    names = [name for name in STRATA if name != ALL and any((*key, name) in hit.index for key in keys)]
    keys, rows = [key for key in keys if (*key, ALL) in hit.index], []
    for name in names:
        cells: list[Cell | str] = [name]
        for key in keys:
            if (*key, name) not in hit.index:
                cells.append(NONE)
                continue
            row = hit.loc[(*key, name)]
            cell = Cell.of_score(row, 2)
            images = counted(int(row["regions"]), "image")
            cells.append(Cell(text=cell.text, small="; ".join(filter(None, [cell.small, images]))))
        rows.append(Row(cells=cells))
    return Table(columns=["hit rate", *map(_named, keys)], rows=rows, wide=True)


def _named(key: Key) -> str:
    return " ".join(filter(None, key))


def layers(table: pd.DataFrame, best: str, methods: dict[str, str]) -> Table:
    """What maps of each layer hit over all regions; `methods` is layer -> method as the table names it."""
    found = table[table["label"] == ALL].set_index(["setting", "method", "metric"])
    rows = [
        Row(
            cells=[
                name,
                *(
                    Cell.of_score(found.loc[(best, method, metric)], 2)
                    for metric in ("hit_rate", "miou", "energy_inside")
                ),
            ]
        )
        for name, method in methods.items()
        if (best, method, "hit_rate") in found.index
    ]
    return Table(
        columns=["layer", *(SALIENCY_METRICS[metric] for metric in ("hit_rate", "miou", "energy_inside"))],
        rows=rows,
    )


def usual_places(table: pd.DataFrame) -> str:
    """Where the maps of right and wrong decisions point; empty where no label has an atlas of its own."""
    own = table[table["metric"] == USUAL].set_index("label")
    said = [
        f"{score(own.loc[what, 'value'], 2)} of "
        f"{counted(int(own.loc[what, 'regions']), what.removesuffix('s'))}"
        for what in (FOUND, MISSED, FALSE)
        if what in own.index
    ]
    if not said:
        return ""
    sentence = (
        "The map points where the label usually lies on other patients (half of the atlas's height and more) "
        f"on {', '.join(said)}"
    )
    if FALSE in own.index:
        sentence += (
            ": what points there on false positives, too, says where the model looks for a label, not that "
            "it is there"
        )
    return f"{sentence}."


def of_sides(table: pd.DataFrame, cohort: Cohort, keys: Sequence[Key]) -> Table:
    """The share of maps on the right side and in the right zone."""
    own = table.set_index(["setting", "method", "metric", "label"])
    shown = [*keys, (ATLAS, "")]
    names = [name for name in dict.fromkeys(table.loc[table["metric"] == sides.SIDE, "label"]) if name]
    rows = []
    for name in names:
        counts = own.loc[(*shown[0], sides.SIDE, name)]
        small = f"{counted(int(counts['regions']), 'image')} of {counted(int(counts['patients']), 'patient')}"
        cells: list[Cell | str] = [Cell(text=cohort.label_name(name), small=small)]
        for key in shown:
            for metric in METRICS_OF_SIDES if key[0] != ATLAS else (sides.SIDE, sides.ZONE):
                place = (*key, metric, name)
                cells.append(Cell.of_score(own.loc[place], 2) if place in own.index else NONE)
        rows.append(Row(cells=cells, rule=name == ALL, kind="best" if name == ALL else ""))
    columns = [
        f"{setting}: {what}"
        for setting, _ in shown
        for what in (METRICS_OF_SIDES.values() if setting != ATLAS else ("side", "zone"))
    ]
    return Table(columns=["label", *columns], rows=rows, wide=True)


def sides_sentence(table: pd.DataFrame, stated: Sequence[sides.Statement], key: Key) -> str:
    """Whether the maps of `key` lie on the stated sides more often than other patients' would."""
    own = table[table["label"] == ALL].set_index(["setting", "method", "metric"])
    mine, usual = own.loc[(*key, sides.SIDE)], own.loc[(ATLAS, "", sides.SIDE)]
    said = (
        f"Reports name the side of {counted(int(mine['regions']), 'finding')} of "
        f"{counted(int(mine['patients']), 'test patient')}: the maps of {key[0]} ({key[1]}) lie mostly on it "
        f"{_with_ends(mine)} of the time, and the side on which the label lies more often on other patients "
        f"is right {_with_ends(usual)} of the time"
    )
    if (*key, sides.BY_CHANCE) not in own.index:
        return f"{said}. No label has two patients with a side stated: what chance would reach is not known."
    chance, above = own.loc[(*key, sides.BY_CHANCE)], own.loc[(*key, sides.ABOVE_CHANCE)]
    said += (
        f". With the statements of other patients with the label it is {score(chance['value'], 2)}, by "
        f"chance: {_difference(above)}"
    )
    if np.isfinite(above["p_holm"]):
        more = above["p_holm"] < 0.05 and above["value"] > 0
        return f"{said}{', more than by chance' if more else ': more than by chance is not shown'}."
    return (
        f"{said}. Fewer than {MIN_PATIENTS} patients ({sides.fewer_sided(stated)}) have one of the sides "
        "stated: no claim."
    )


def verdict(sanity: Sequence[tuple[str, float]], drawn: int, regions: int) -> str:
    """Of weight randomisation, on a sample of `drawn` regions."""
    last = sanity[-1][1]
    sample = f" (on a random {drawn} of the {regions} regions)" if drawn < regions else ""
    if abs(last) < LEARNT:
        return (
            f"With all weights redrawn the maps' rank correlation with themselves falls to "
            f"{score(last, 2)}{sample}: they show what the model has learnt, and not the image alone."
        )
    return (
        f"With all weights redrawn the maps' rank correlation with themselves is still "
        f"{score(last, 2)}{sample}: they show the image rather than what the model has learnt, and say "
        "nothing about it."
    )


def ceilings(localisation: Localisation) -> list[str]:
    """What was cut off, and what raters reach against each other."""
    lines = []
    partly, wholly = localisation.cut_off()
    if partly or wholly:
        lines.append(
            f"The encoder does not see the whole image: {counted(wholly, 'region')} of "
            f"{len(localisation.pairs)} lie wholly in what is cut off, and count as missed, and {partly} "
            "partly."
        )
    if found := between_raters(localisation.pairs):
        regions, overlap, met = found
        lines.append(
            f"Where several raters drew ({counted(regions, 'region')}), two of them share an IoU of "
            f"{score(overlap, 2)}, and one's centre lies in the other's region {met:.0%} of the time: more "
            "cannot be asked of a map."
        )
    return lines
