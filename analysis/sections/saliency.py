"""Where the model looks, scored against what people drew and against floors that know nothing of the
image."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.evidence import Evidence
from analysis.figures import BEST, INK, QUIET, STYLE, WIDTH, new_figure, short
from analysis.localisation import (
    AREAS,
    ATLAS,
    CEILING,
    FLOORS,
    METRICS,
    Localisation,
    annotated_pairs,
    between_readers,
    scores,
)
from analysis.number_format import NONE, counted, score, signed
from analysis.predictors import PAPER, ZERO_SHOT, Scored
from analysis.saliency_pictures import overlay
from analysis.section import Cell, Folded, Part, Picture, Row, Section, Table, Words
from cohort.errors import InputError
from vlm.saliency import RELEVANCE, check_encoder

TITLE = "Where the model looks"

METHOD = "layercam"
"""By which settings are compared; the others stand in the table."""
SHOWN = 6
"""Labels of the figure of maps, those with the most regions."""
LEARNT = 0.5
"""Rank correlation with the maps of redrawn weights below which a map shows what the model has learnt."""


def run(evidence: Evidence) -> Section:
    pairs = annotated_pairs(evidence.cohort, evidence.split.rows_N)
    if not pairs:
        return Section(
            parts=[
                Words(
                    text="Nobody drew on the test images, so that maps can be looked at and not scored: "
                    "`radtune cohort annotate` reads boxes and masks, `radtune saliency` draws the maps."
                )
            ]
        )
    try:
        for row in _settings(evidence):
            check_encoder(row.predictor.encoder)
        return _scored(evidence, pairs)
    except InputError as error:
        return Section(parts=[Words(text=f"There are no maps: {error}.", kind="note")])


def _settings(evidence: Evidence) -> list[Scored]:
    names = dict.fromkeys([ZERO_SHOT, PAPER, evidence.best])
    return [evidence.row(name) for name in names if evidence.has(name)]


def _scored(evidence: Evidence, pairs: list) -> Section:
    best = evidence.row(evidence.best).predictor
    localisation = Localisation(
        cohort=evidence.cohort,
        encoder=best.encoder,
        pairs=pairs,
        development=annotated_pairs(evidence.cohort, evidence.data.rows_N),
        seed=evidence.study.seed,
    )
    maps: dict[tuple[str, str], list[np.ndarray]] = {
        (floor, ""): drawn for floor, drawn in localisation.floors(best).items()
    }
    refused: dict[str, str] = {}
    for row in _settings(evidence):
        for method in (METHOD, "gradcam", RELEVANCE):
            try:
                maps[row.name, method] = localisation.maps(row.predictor, method)
            except InputError as error:
                refused[f"{row.name}, {method}"] = str(error)
    table = scores(pairs, localisation.labels, maps, evidence.study.seed)
    sanity = localisation.sanity(best, METHOD)
    parts: list[Part] = [
        Words(text=_sentence(evidence, table)),
        _table(evidence, table),
        Words(
            text="Means over labels with regions of two test patients, 95 % intervals over patients. A hit "
            "is a map whose largest pixel lies in the region; mIoU cuts at the threshold that is best on "
            "other patients; the energy is the map's share inside. Random, centre and atlas (where "
            "development patients have regions of that label) do not see the image, EigenCAM does not know "
            "the label, the input gradient looks into no layer; the ceiling is the regions themselves on the "
            "cells of a map.",
            kind="note",
        ),
        *_counted(localisation),
        Words(text=_verdict(sanity)),
        Picture(
            name="saliency_sanity",
            figure=_cascade(sanity),
            alt="Rank correlation of the maps with those of redrawn weights, from the heads down.",
            caption="Rank correlation of the maps with themselves as weights are redrawn from the top down "
            "(Adebayo et al. 2018).",
            small=True,
        ),
        Folded(title="Each label, and by size", parts=[_by_label(evidence, table, localisation.labels)]),
    ]
    if evidence.study.images:
        parts.insert(
            -1,
            Picture(
                name="saliency_maps",
                figure=sheet(evidence, localisation, maps),
                alt="Test images with what people drew and the maps of each setting.",
                caption=f"One test image of each of the labels with the most regions, {METHOD}; outlined "
                "what people drew. One colour scale a column.",
            ),
        )
    if refused:
        parts.append(Words(lines=[f"{what}: {why}" for what, why in refused.items()], kind="note"))
    return Section(parts=parts, tables={"saliency": table})


def _counted(localisation: Localisation) -> list[Part]:
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
    return [Words(lines=lines, kind="note")] if lines else []


def _averages(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["label"] == ""].set_index(["setting", "method", "metric"])


def _sentence(evidence: Evidence, table: pd.DataFrame) -> str:
    averages = _averages(table)
    key = (evidence.best, METHOD, "hit_rate")
    if key not in averages.index:
        return "No label has regions of two test patients, so that there is no average to give."
    mine, atlas = averages.loc[key], averages.loc[(ATLAS, "", "hit_rate")]
    above = averages.loc[(evidence.best, METHOD, "above_atlas")]
    if not np.isfinite(above["low"]):
        verdict = "too few patients to say whether that is more than where the label usually lies"
    elif above["low"] > 0:
        verdict = "more than one that has learnt where the label usually lies"
    elif above["high"] < 0:
        verdict = "less than one that has only learnt where the label usually lies"
    else:
        verdict = "no difference shown from one that has only learnt where the label usually lies"
    return (
        f"On {counted(int(mine['regions']), 'region')} of {counted(int(mine['patients']), 'test patient')} "
        f"the maps of {evidence.best} ({METHOD}) hit {_with_ends(mine)} on average over labels, the location "
        f"atlas {_with_ends(atlas)}: {signed(above['value'])}"
        + (f" ({signed(above['low'])} to {signed(above['high'])})" if np.isfinite(above["low"]) else "")
        + f", {verdict}."
    )


def _with_ends(row: pd.Series) -> str:
    if not np.isfinite(row["low"]):
        return score(row["value"], 2)
    return f"{score(row['value'], 2)} ({score(row['low'], 2)} to {score(row['high'], 2)})"


def _table(evidence: Evidence, table: pd.DataFrame) -> Table:
    averages = _averages(table)
    keys = list(dict.fromkeys((setting, method) for setting, method, _ in averages.index))
    rows = []
    for place, (setting, method) in enumerate(keys):
        cells: list[Cell | str] = [Cell(text=setting, small=method)]
        for metric in METRICS:
            row = averages.loc[(setting, method, metric)]
            cells.append(Cell.of_score(row) if np.isfinite(row["value"]) else NONE)
        floor = setting in (*FLOORS, CEILING)
        kind = "quiet" if floor else "best" if (setting, method) == (evidence.best, METHOD) else ""
        first_of_trials = not floor and place and keys[place - 1][0] in (*FLOORS, CEILING)
        rows.append(Row(cells=cells, kind=kind, rule=bool(first_of_trials)))
    return Table(columns=["maps of", *METRICS.values()], rows=rows)


def _by_label(evidence: Evidence, table: pd.DataFrame, labels: Sequence[str]) -> Table:
    hit = table[table["metric"] == "hit_rate"].set_index(["setting", "method", "label"])
    shown = [(row.name, METHOD) for row in _settings(evidence)] + [(ATLAS, "")]
    shown = [key for key in shown if (*key, labels[0]) in hit.index]
    rows = []
    areas = [area for area in AREAS if (*shown[0], area) in hit.index]
    for label in [*labels, *areas]:
        counts = hit.loc[(*shown[0], label)]
        first = Cell(
            text=evidence.cohort.label_name(label),
            small=f"{counted(int(counts['regions']), 'image')} of "
            f"{counted(int(counts['patients']), 'patient')}",
        )
        cells = [first, *(Cell.of_score(hit.loc[(*key, label)]) for key in shown)]
        rows.append(Row(cells=cells, rule=label in areas[:1]))
    return Table(columns=["hit rate", *(setting for setting, _ in shown)], rows=rows)


def _verdict(sanity: Sequence[tuple[str, float]]) -> str:
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


def _cascade(sanity: Sequence[tuple[str, float]]) -> Figure:
    names = ["trained", *(name for name, _ in sanity)]
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 0.9 + 0.24 * len(names))
        axes = figure.subplots()
        y = np.arange(len(names))
        axes.plot([1.0, *(value for _, value in sanity)], y, "o-", color=BEST, markersize=4)
        axes.axvline(0, color=QUIET, linewidth=0.7)
        axes.set_yticks(y, names, color=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("rank correlation")
    return figure


def sheet(
    evidence: Evidence, localisation: Localisation, maps: dict[tuple[str, str], list[np.ndarray]]
) -> Figure:
    """A row a label: the image, then the maps of each setting over it, with what people drew."""
    pairs = localisation.pairs
    counts = {label: sum(pair.label == label for pair in pairs) for label in localisation.labels}
    labels = sorted(counts, key=lambda label: -counts[label])[:SHOWN]
    places = [next(place for place, pair in enumerate(pairs) if pair.label == label) for label in labels]
    columns = [(row.name, METHOD) for row in _settings(evidence) if (row.name, METHOD) in maps]
    tops = {key: max(float(np.nanmax(maps[key][place])) for place in places) for key in columns}
    files = evidence.cohort.files()
    side = WIDTH / (1 + len(columns))
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, len(labels) * (side + 0.25))
        grid = figure.subplots(len(labels), 1 + len(columns), squeeze=False)
        for line, (label, place) in enumerate(zip(labels, places, strict=True)):
            pixels = files.decode(pairs[place].row)
            for axes, key in zip(grid[line], [None, *columns], strict=True):
                axes.set_axis_off()
                plain = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
                axes.imshow(plain if key is None else overlay(pixels, maps[key][place], tops[key]))
                axes.contour(
                    pairs[place].mask_HW.astype(float), levels=[0.5], colors="#56B4E9", linewidths=0.9
                )
                if key is None:
                    axes.set_title(short(evidence.cohort.label_name(label)), fontsize=9)
                elif line == 0:
                    axes.set_title(key[0], fontsize=9)
    return figure
