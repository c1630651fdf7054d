"""The page of a comparison: encoders side by side in a table and a figure, paired tests of their probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.compare import EVERYWHERE, OF_KINDS, PROBE, Comparison, name_of
from analysis.figures import INK, QUIET, RULE, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.inside.overlay_effects import BOX, TEXT
from analysis.judging.claims import LEVEL
from analysis.judging.evaluation_set import EvaluationSet
from analysis.number_format import NONE, counted, p_text, score, signed
from analysis.page import Head, section_html, write_page
from analysis.row_styles import BEST
from analysis.section import Cell, Folded, Part, Picture, Row, Section, Table, Words
from cohort.csv_text import csv_text
from cohort.files import write_atomically
from scoring.intervals import MIN_PATIENTS
from vlm.encoder_names import TIMM

KIND_OF_IMAGE = "kind of image"
PER_COHORT_LABELS = 40
"""Labels at most of a table of the page; the files have all."""
FINDINGS_COLOUR, TEXT_COLOUR, KIND_COLOUR = BEST, "#D55E00", "#009E73"


def headline(comparison: Comparison) -> str:
    """Which probe scores best on each cohort, and what lies furthest apart in the features."""
    lines, cohorts = comparison.lines, list(comparison.cohorts)

    def number(line: tuple[str, str], cohort: str, metric: str, overlay: str = "") -> float:
        row = comparison.value(line, cohort, metric, overlay)
        return float(row["value"]) if row is not None else -np.inf

    said = []
    for cohort in cohorts:
        best = max(lines, key=lambda line: number(line, cohort, f"{PROBE}.macro_auroc"))
        said.append(f"{name_of(best)} on {cohort} ({score(number(best, cohort, f'{PROBE}.macro_auroc'))})")
    both = [(line, cohort) for line in lines for cohort in cohorts]
    findings = _range([number(*pair, "logistic_accuracy") for pair in both])
    texts = _range([number(*pair, "discriminated", TEXT) for pair in both])
    text = (
        f"The probe with the highest macro AUROC{_where(comparison)} is that of {'; of '.join(said)}. By a "
        f"held-out regression's balanced accuracy findings separate with {findings}, overlaid text with "
        f"{texts}"
    )
    if len(cohorts) > 1:
        kinds = _range([number(line, EVERYWHERE, f"{OF_KINDS}logistic_accuracy") for line in lines])
        text += f", the cohorts' kinds of image with {kinds}"
    return f"{text}."


def _where(comparison: Comparison) -> str:
    """On whom probes are scored, in words."""
    on_test = any(split.split == "test" for split in comparison.splits.values())
    return " on test patients" if on_test else ", out of fold on development patients,"


def _optimism(comparison: Comparison) -> str:
    """What choosing C by the very scores that are shown makes of them."""
    if any(split.split == "test" for split in comparison.splits.values()):
        return ""
    return ", by the very scores that stand here, which is slightly too high for all encoders alike"


def _range(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return NONE
    low, high = score(min(known), 2), score(max(known), 2)
    return low if low == high else f"{low} to {high}"


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write `comparison.csv`, `paired.csv`, `figures/comparison.png` and `report.html`; returns the page."""
    for name, table in (("comparison", comparison.table), ("paired", comparison.paired)):
        write_atomically(folder / f"{name}.csv", csv_text(table, "%.6g").encode())
    sections = [
        ("Side by side", Section(parts=list(_side_by_side(comparison)))),
        ("Probes on the same patients", Section(parts=list(_paired(comparison)))),
        ("What the cohorts share", Section(parts=list(_shared(comparison)))),
    ]
    head = Head(
        kicker="comparison of encoders",
        title=" and ".join(comparison.cohorts),
        headline=headline(comparison),
        facts=[
            (
                name,
                f"{split.own.scored_images:,}",
                f"{split.split} images of {counted(split.own.scored_patients, 'patient')}, {_labels(split)}",
            )
            for name, split in comparison.splits.items()
        ],
        tables="comparison.csv and paired.csv",
    )
    return write_page(head, [(title, section_html(one, folder)) for title, one in sections], folder)


def _labels(split: EvaluationSet) -> str:
    """`14 labels averaged, 10 of them with fewer than 10 patients on the smaller side`."""
    fewer_C = split.fewer_patients_C[split.averaged_C]
    rare = int((fewer_C < MIN_PATIENTS).sum())
    few = f", {rare} of them with fewer than {MIN_PATIENTS} patients on the smaller side" if rare else ""
    return f"{counted(len(fewer_C), 'label')} averaged{few}"


def _side_by_side(comparison: Comparison) -> list[Part]:
    rows = []
    for place, line in enumerate(comparison.lines):
        for number, cohort in enumerate(comparison.cohorts):
            rows.append(_line(comparison, line, cohort, place > 0 and number == 0))
        apart, ratio = (
            comparison.value(line, EVERYWHERE, f"{OF_KINDS}{metric}")
            for metric in ("logistic_accuracy", "ratio")
        )
        if apart is not None:
            first = Cell(text=name_of(line), small=KIND_OF_IMAGE)
            rows.append(
                Row(cells=[first, _with_chance(ratio), _with_chance(apart), *[NONE] * 4], kind="quiet")
            )
    columns = [
        "encoder, features",
        "ratio ↑",
        "held-out\nregression ↑",
        "text discriminated\nfrom clean ↓",
        "shift by\ntext ↓",
        "probe, macro\nAUROC ↑",
        "images/s",
    ]
    left_out = [
        f"{comparison.cohorts[name].label_name(label)} ({name})"
        for name, labels in comparison.too_rare.items()
        for label in labels
    ]
    rare = (
        [
            Words(
                text=f"Without two patients of either kind, and so left out: {', '.join(left_out)}.",
                kind="note",
            )
        ]
        if left_out
        else []
    )
    return [
        Picture(
            name="comparison",
            figure=side_by_side(comparison),
            alt="Balanced accuracy with which findings, overlaid text and kinds of image are discriminated.",
            caption="Balanced accuracy of held-out logistic regressions: findings (mean over labels, 95 % "
            "interval over patients, and in grey what chance gives), text burned into images against clean "
            "ones (mean over texts), and the cohorts themselves.",
        ),
        Table(columns=columns, rows=rows),
        Words(
            text="Ratio and regression: mean over labels on held-out patients, with what labels permuted "
            "over patients give; text: mean over the overlays, the grey box of the same size beneath; the "
            "probe is a logistic regression on training and validation, its C chosen over five folds of "
            f"patients{_optimism(comparison)}. Images per second are those of passes made in this "
            "comparison, without decoding; an encoder whose features were cached has none. All labels, "
            "metrics and overlays stand in comparison.csv.",
            kind="note",
        ),
        *rare,
    ]


def _line(comparison: Comparison, line: tuple[str, str], cohort: str, rule: bool) -> Row:
    auroc = comparison.value(line, cohort, f"{PROBE}.macro_auroc")
    speed = comparison.value(line, cohort, "images_per_second")
    cells = [
        Cell(text=name_of(line), small=cohort),
        _with_chance(comparison.value(line, cohort, "ratio")),
        _with_chance(comparison.value(line, cohort, "logistic_accuracy")),
        _with_box(comparison, line, cohort, "discriminated"),
        _with_box(comparison, line, cohort, "shift"),
        Cell.of_score(auroc) if auroc is not None else NONE,
        score(speed["value"], 0) if speed is not None else NONE,
    ]
    return Row(cells=cells, rule=rule)


def _with_chance(row: pd.Series | None) -> Cell:
    if row is None:
        return Cell(text=NONE)
    chance = ""
    if np.isfinite(row["chance_low"]):
        chance = f"chance {score(row['chance_low'], 2)} to {score(row['chance_high'], 2)}"
    return Cell(text=score(row["value"]), small=chance)


def _with_box(comparison: Comparison, line: tuple[str, str], cohort: str, metric: str) -> Cell:
    text, box = (comparison.value(line, cohort, metric, which) for which in (TEXT, BOX))
    if text is None:
        return Cell(text=NONE)
    return Cell(text=score(text["value"], 2), small=f"box {score(box['value'], 2)}")


def _paired(comparison: Comparison) -> list[Part]:
    if comparison.paired.empty:
        return [Words(text="There is one encoder only, and nothing to hold it against.")]
    rows = []
    for row in comparison.paired.itertuples():
        ends = NONE
        if np.isfinite(row.low):
            ends = f"{signed(row.low)} to {signed(row.high)}"
        rows.append(
            Row(
                cells=[
                    Cell(text=row.first, small=f"less {row.second}, {row.cohort}"),
                    Cell(text=signed(row.difference), small=ends),
                    p_text(row.p_holm) if np.isfinite(row.p_holm) else NONE,
                    score(row.within),
                ],
                kind="" if row.p_holm < LEVEL else "quiet",
            )
        )
    return [
        Table(columns=["probe of", "macro AUROC,\ndifference", "Holm-adjusted", "equal\nwithin"], rows=rows),
        Words(
            text="Paired permutation tests over patients, Holm-adjusted within a cohort; in grey where "
            "no difference is shown. “Equal within” is the smallest margin beyond which a difference is "
            "ruled out at 2.5 %. Averages over labels with fewer than "
            f"{MIN_PATIENTS} patients on their smaller sides together are not tested.",
            kind="note",
        ),
    ]


def _shared(comparison: Comparison) -> list[Part]:
    if len(comparison.cohorts) < 2:
        return [Words(text="There is one cohort only.")]
    if not comparison.shared:
        return [
            Words(
                text="The cohorts have no label in common, so that no label can be followed from one to "
                "another; everything above holds within each."
            )
        ]
    table = comparison.table
    mine = table[table["metric"] == f"{PROBE}.auroc"].set_index(["encoder", "setting", "cohort", "label"])
    parts = []
    for label in comparison.shared[:PER_COHORT_LABELS]:
        rows = []
        for line in comparison.lines:
            keys = [(*line, cohort, label) for cohort in comparison.cohorts]
            cells = [Cell.of_score(mine.loc[key]) if key in mine.index else NONE for key in keys]
            rows.append(Row(cells=[name_of(line), *cells]))
        parts.append(Table(columns=["AUROC of the probe", *comparison.cohorts], rows=rows, title=label))
    return [
        Words(text=f"Labels in all cohorts: {', '.join(comparison.shared)}."),
        Folded(title="The probes on them", parts=parts),
    ]


def side_by_side(comparison: Comparison) -> Figure:
    """One panel per cohort: what each encoder's features discriminate."""
    lines, cohorts = comparison.lines, list(comparison.cohorts)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 0.8 + len(cohorts) * (0.4 + 0.34 * len(lines)))
        panels = np.ravel(figure.subplots(len(cohorts), 1, sharex=True, squeeze=False))
        for axes, cohort in zip(panels, cohorts, strict=True):
            axes.set_title(short(cohort))
            axes.axvline(0.5, color=QUIET, linewidth=0.7)
            for y, line in enumerate(lines):
                found = comparison.value(line, cohort, "logistic_accuracy")
                if found is not None:
                    axes.hlines(y, found["chance_low"], found["chance_high"], color=RULE, linewidth=6)
                    axes.hlines(y, found["low"], found["high"], color=FINDINGS_COLOUR, linewidth=1.2)
                    axes.plot(found["value"], y, "o", color=FINDINGS_COLOUR, markersize=5)
                text = comparison.value(line, cohort, "discriminated", TEXT)
                if text is not None:
                    axes.plot(text["value"], y, "s", color=TEXT_COLOUR, markersize=5)
                apart = comparison.value(line, EVERYWHERE, f"{OF_KINDS}logistic_accuracy")
                if apart is not None:
                    axes.plot(apart["value"], y, "D", color=KIND_COLOUR, markersize=5)
            axes.set_yticks(range(len(lines)), [_shown(line) for line in lines], color=INK, fontsize=9)
            axes.set_ylim(len(lines) - 0.5, -0.5)
        panels[-1].set_xlabel("balanced accuracy, held out")
        handles = [
            Line2D([], [], marker=marker, linestyle="", color=colour, label=label)
            for marker, colour, label in (
                ("o", FINDINGS_COLOUR, "findings"),
                ("s", TEXT_COLOUR, "overlaid text"),
                ("D", KIND_COLOUR, KIND_OF_IMAGE),
            )
        ]
        legend_beneath(figure, handles)
    return figure


def _shown(line: tuple[str, str]) -> str:
    """As the figure has room for it: of timm's names the architecture, of others the end, where a hub or a
    path says which model it is."""
    name = line[0]
    name = name.partition("@")[0].removeprefix(TIMM) if name.startswith(TIMM) else name.rpartition(":")[2]
    return f"{name if len(name) <= 22 else f'…{name[-21:]}'}\n{line[1]}"
