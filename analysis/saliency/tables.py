"""Maps and what people drew, in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.number_format import NONE, counted, p_text, score, signed
from analysis.saliency import sides
from analysis.saliency.annotated import between_readers
from analysis.saliency.localisation import ATLAS, CEILING, FLOORS, Localisation
from analysis.saliency.scores import FALSE, FOUND, METRICS, MISSED, STRATA, USUAL, Key
from analysis.section import Cell, Row, Table
from cohort.manifest import Cohort

LEARNT = 0.5
"""Rank correlation with the maps of redrawn weights below which a map shows what the model has learnt."""


def headline(table: pd.DataFrame, key: Key, with_atlas: Key) -> str:
    """What the maps of `key` hit beside the atlas, and whether they and the atlas hit more than it alone."""
    averages = _averages(table)
    if (*key, "hit_rate") not in averages.index:
        return "No label has regions of two test patients, so that there is no average to give."
    mine, atlas = averages.loc[(*key, "hit_rate")], averages.loc[(ATLAS, "", "hit_rate")]
    said = (
        f"On {counted(int(mine['regions']), 'region')} of {counted(int(mine['patients']), 'test patient')} "
        f"the maps of {key[0]} ({key[1]}) hit {_with_ends(mine)} on average over labels, an atlas of where "
        f"each label lies on other patients {_with_ends(atlas)}: "
        f"{_difference(averages.loc[(*key, 'above_atlas')])}"
    )
    if (*with_atlas, "above_atlas") in averages.index:
        both = averages.loc[(*with_atlas, "hit_rate")]
        added = averages.loc[(*with_atlas, "above_atlas")]
        said += f". Map and atlas together hit {_with_ends(both)}, {_difference(added)} above the atlas alone"
        if np.isfinite(added["p_holm"]):
            more = added["p_holm"] < 0.05 and added["value"] > 0
            said += (
                ": the map knows of the image what the atlas cannot"
                if more
                else (": that the map adds anything to it is not shown")
            )
    return said + "."


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
    """Each setting's and floor's means over labels. The pointing game, which at a tolerance of 0 pixels is
    the hit rate, stands in `saliency.csv` alone."""
    found = _averages(table)
    keys = list(dict.fromkeys((setting, method) for setting, method, _ in found.index))
    shown = {metric: title for metric, title in METRICS.items() if metric != "pointing_game"}
    rows = []
    for place, (setting, method) in enumerate(keys):
        cells: list[Cell | str] = [Cell(text=setting, small=method)]
        for metric in shown:
            row = found.loc[(setting, method, metric)]
            cells.append(Cell.of_score(row) if np.isfinite(row["value"]) else NONE)
        if (setting, method, "above_atlas") in found.index:
            above = found.loc[(setting, method, "above_atlas")]
            tested = f"Holm {p_text(above['p_holm'])}" if np.isfinite(above["p_holm"]) else ""
            cells.append(Cell(text=signed(above["value"]), small=tested))
        else:
            cells.append("")
        floor = setting in (*FLOORS, CEILING)
        kind = "quiet" if floor else "best" if (setting, method) == best else ""
        first_of_trials = not floor and place and keys[place - 1][0] in (*FLOORS, CEILING)
        rows.append(Row(cells=cells, kind=kind, rule=bool(first_of_trials)))
    return Table(columns=["maps of", *shown.values(), "hits − atlas"], rows=rows, wide=True)


def by_decision(table: pd.DataFrame, key: Key) -> str:
    """What the maps hit where the label was decided for and where it was missed; empty where nothing was
    decided."""
    own = table[(table["setting"] == key[0]) & (table["method"] == key[1])].set_index(["metric", "label"])
    said = []
    for what, where in ((FOUND, "whose label it decides for"), (MISSED, "whose label it misses")):
        if ("hit_rate", what) in own.index:
            hit, above = own.loc[("hit_rate", what)], own.loc[("above_atlas", what)]
            said.append(
                f"on the {counted(int(hit['regions']), 'region')} {where} {_with_ends(hit)} "
                f"({signed(above['value'])} against the atlas there)"
            )
    return f"The maps hit {', and '.join(said)}." if said else ""


def by_label(table: pd.DataFrame, cohort: Cohort, labels: Sequence[str], keys: Sequence[Key]) -> Table:
    """The hit rate of each label and stratum; a stratum that only decisions make has no atlas of its own."""
    hit = table[table["metric"] == "hit_rate"].set_index(["setting", "method", "label"])
    keys = [key for key in keys if (*key, labels[0]) in hit.index]
    rows = []
    strata = [name for name in STRATA if any((*key, name) in hit.index for key in keys)]
    for label in [*labels, *strata]:
        own = [key for key in keys if (*key, label) in hit.index]
        most = hit.loc[(*own[0], label)]
        small = (
            ""
            if label in (FOUND, MISSED)
            else (f"{counted(int(most['regions']), 'image')} of {counted(int(most['patients']), 'patient')}")
        )
        cells: list[Cell | str] = [Cell(text=cohort.label_name(label), small=small)]
        for key in keys:
            if key not in own:
                cells.append(NONE)
                continue
            row = hit.loc[(*key, label)]
            cell = Cell.of_score(row, 2)
            if label in (FOUND, MISSED):
                cell = Cell(text=cell.text, small=f"{cell.small}; {counted(int(row['regions']), 'image')}")
            cells.append(cell)
        rows.append(Row(cells=cells, rule=label in strata[:1]))
    return Table(
        columns=["hit rate", *(f"{setting} {method}".strip() for setting, method in keys)],
        rows=rows,
        wide=True,
    )


def layers(table: pd.DataFrame, best: str, methods: dict[str, str]) -> Table:
    """What maps of each layer hit; `methods` is layer -> method as the table names it."""
    found = _averages(table)
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
        columns=["layer", *(METRICS[metric] for metric in ("hit_rate", "miou", "energy_inside"))], rows=rows
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
    names = list(dict.fromkeys(table.loc[table["metric"] == sides.SIDE, "label"]))
    names = [*(name for name in names if name), *([""] if "" in names else [])]
    rows = []
    for name in names:
        counts = own.loc[(*shown[0], sides.SIDE, name)]
        small = f"{counted(int(counts['regions']), 'image')} of {counted(int(counts['patients']), 'patient')}"
        cells: list[Cell | str] = [Cell(text=cohort.label_name(name) if name else "mean", small=small)]
        for key in shown:
            for metric in (sides.SIDE, sides.ZONE):
                place = (*key, metric, name)
                cells.append(Cell.of_score(own.loc[place], 2) if place in own.index else NONE)
        rows.append(Row(cells=cells, rule=not name, kind="" if name else "best"))
    columns = [f"{setting}: {what}" for setting, _ in shown for what in ("side", "zone")]
    return Table(columns=["label", *columns], rows=rows, wide=True)


def sides_sentence(table: pd.DataFrame, key: Key) -> str:
    own = table[(table["metric"] == sides.SIDE) & (table["label"] == "")].set_index(["setting", "method"])
    if key not in own.index:
        return "No label has a stated side on two test patients, so that there is no average to give."
    mine, usual = own.loc[key], own.loc[(ATLAS, "")]
    low = mine["low"]
    verdict = (
        ""
        if not np.isfinite(low)
        else (", more than by chance" if low > 0.5 else ", and more than chance is not shown")
    )
    return (
        f"Reports name the side of {counted(int(mine['regions']), 'finding')} of "
        f"{counted(int(mine['patients']), 'test patient')}: the maps of {key[0]} ({key[1]}) lie mostly on "
        f"it {_with_ends(mine)} of the time on average over labels, by chance 0.50{verdict}; the side on "
        f"which the label lies more often on other patients is right {_with_ends(usual)} of the time."
    )


def verdict(sanity: Sequence[tuple[str, float]]) -> str:
    """Of weight randomisation."""
    last = sanity[-1][1]
    if abs(last) < LEARNT:
        return (
            f"With all weights redrawn the maps' rank correlation with themselves falls to {score(last, 2)}: "
            "they show what the model has learnt, and not the image alone."
        )
    return (
        f"With all weights redrawn the maps' rank correlation with themselves is still {score(last, 2)}: "
        "they show the image rather than what the model has learnt, and say nothing about it."
    )


def ceilings(localisation: Localisation) -> list[str]:
    """What was cut off, and what people reach against each other."""
    lines = []
    partly, wholly = localisation.cut_off()
    if partly or wholly:
        lines.append(
            f"The encoder does not see the whole image: {counted(wholly, 'region')} of "
            f"{len(localisation.pairs)} lie wholly in what is cut off, and count as missed, and {partly} "
            "partly."
        )
    if found := between_readers(localisation.pairs):
        regions, overlap, met = found
        lines.append(
            f"Where several people drew ({counted(regions, 'region')}), two of them share an IoU of "
            f"{score(overlap, 2)}, and one's centre lies in the other's region {met:.0%} of the time: more "
            "cannot be asked of a map."
        )
    return lines
