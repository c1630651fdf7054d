"""The best configuration on each label and domain: scores, counts, threshold, what it is told apart from."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.claims import Claim
from analysis.evidence import Evidence
from analysis.figures import BEST, COLOURS, QUIET, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.number_format import NONE, counted, score, share, strategy
from analysis.predictors import LOGREG, PAPER, PIXELS, ZERO_SHOT
from analysis.section import Cell, Part, Picture, Row, Section, Table, Words
from analysis.test_split import SplitCounts
from cohort.manifest import Cohort
from scoring.intervals import MIN_PATIENTS

TITLE = "Label by label"

METRICS = {
    "auroc": "AUROC",
    "average_precision": "average\nprecision",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
}


def run(evidence: Evidence) -> Section:
    own = evidence.scores[evidence.scores["setting"] == evidence.best].set_index(["metric", "label"])
    floors = [name for name in (ZERO_SHOT, PIXELS, LOGREG, PAPER) if evidence.drawn(name)]
    rule = evidence.row(evidence.best).rule
    decided = "A probability at or above the threshold is a finding"
    if rule.exclusive:
        decided = "The label with the highest log(probability) − logit(threshold) is decided, one an image"
    note = f"{decided}. Threshold strategy: {strategy(rule.strategy, exclusive=rule.exclusive)}"
    if rule.shared_C.any():
        taken = "keep 0.5" if rule.exclusive else "take the global threshold"
        note += f"; “shared” marks labels that have too few positive patients there and {taken}"
    parts: list[Part] = [
        Picture(
            name="forest",
            figure=forest(evidence.scores, evidence.cohort, evidence.best, floors),
            alt=f"AUROC of {evidence.best} on each label with its interval, beside the floors; its numbers "
            "stand in the table.",
        ),
        _label_table(evidence, own),
        Words(
            text=f"{note}. A label with fewer than {MIN_PATIENTS} positive patients gets no claim.",
            kind="note",
        ),
    ]
    if evidence.split.domains:
        parts += [
            _domain_table(own, list(evidence.split.domains)),
            Words(
                text="A domain is positive where any of its labels is; its score is the highest of theirs.",
                kind="note",
            ),
        ]
    return Section(parts=parts)


def _label_table(evidence: Evidence, own: pd.DataFrame) -> Table:
    """The labels by their number of positive patients on test, the most first."""
    claims = {claim.label: claim for claim in evidence.claims}
    order = np.argsort(-evidence.split.positive_patients_C, kind="stable")
    return Table(
        columns=[
            "label",
            *METRICS.values(),
            "threshold",
            "told apart from",
            "training\npositives",
            "test\npositives",
            "their\npatients",
        ],
        rows=[_label_row(evidence, own, claims[evidence.cohort.labels[c]], int(c)) for c in order],
        wide=True,
        left=(0, 7),
    )


def _label_row(evidence: Evidence, own: pd.DataFrame, claim: Claim, c: int) -> Row:
    counts = {one.split: one for one in evidence.split.counts}
    averaged = evidence.split.averaged_C[c]
    first = Cell(text=claim.name, small="" if averaged else "not in the averages")
    patients = counts["test"].patients_C[c]
    last = [_positives(counts["train"], c), _positives(counts["test"], c), str(patients)]
    if claim.silent:
        few = counted(patients, "positive patient")
        why = claim.score.removesuffix(" on test") if claim.verdict == "none" else few
        silence = Cell(text=f"no claim: {why}", across=len(METRICS) + 2)
        return Row(cells=[first, silence, *last], kind="quiet")
    rule = evidence.row(evidence.best).rule
    return Row(
        cells=[
            first,
            *(Cell.of_score(own.loc[(metric, claim.label)]) for metric in METRICS),
            Cell(text=score(rule.thresholds_C[c]), small="shared" if rule.shared_C[c] else ""),
            Cell(chips=_chips(claim)),
            *last,
        ]
    )


def _positives(counts: SplitCounts, c: int) -> Cell:
    positives = counts.positives_C[c]
    return Cell(text=f"{positives:,}", small=share(positives, counts.images - counts.masked_C[c]))


def _chips(claim: Claim) -> list[tuple[str, str]]:
    chance = {"above chance": ("above chance", "good"), "below chance": ("below chance", "bad")}
    return [
        chance.get(claim.verdict, (claim.verdict, "")),
        *((f"better than {name}", "good") for name in claim.better_than),
        *((f"worse than {name}", "bad") for name in claim.worse_than),
    ]


def _domain_table(own: pd.DataFrame, domains: Sequence[str]) -> Table:
    rows = []
    for name in domains:
        scores = own.xs(f"domain:{name}", level="label")
        positives, patients = (int(scores[count].iloc[0]) for count in ("positives", "positive_patients"))
        claimed = patients >= MIN_PATIENTS
        cells = [Cell.of_score(scores.loc[metric]) if claimed else NONE for metric in METRICS]
        rows.append(Row(cells=[name, str(positives), str(patients), *cells]))
    names = [name.replace("\n", " ") for name in METRICS.values()]
    return Table(title="By domain", columns=["domain", "positive images", "patients", *names], rows=rows)


def forest(scores: pd.DataFrame, cohort: Cohort, best: str, floors: Sequence[str]) -> Figure:
    """AUROC of each label with its interval, and the floors' values; words where patients are too few.

    Labels stand by their number of positive patients, the most first, then the macro average.
    """
    auroc = scores[scores["metric"] == "auroc"].set_index(["setting", "label"])
    macro = scores[scores["metric"] == "macro_auroc"].set_index("setting")
    order = sorted(cohort.labels, key=lambda label: -auroc.loc[(best, label), "positive_patients"])
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.4 + 0.29 * (len(order) + 1))
        axes = figure.subplots()
        ticks = []
        for place, label in enumerate([*order, ""]):
            y = -place - (0.35 if label == "" else 0)
            row = auroc.loc[(best, label)] if label else macro.loc[best]
            patients = int(row["positive_patients"])
            ticks.append(
                (
                    y,
                    f"{short(cohort.label_name(label))}  ({patients})"
                    if label
                    else f"macro average of {int(row['labels_averaged'])}",
                )
            )
            if label and patients < MIN_PATIENTS:
                what = "no positive patient" if patients == 0 else "too few for a claim"
                axes.text(0.5, y, f"  {what}", va="center", ha="left", color=QUIET, fontsize=9)
                continue
            for floor in floors:
                value = auroc.loc[(floor, label), "value"] if label else macro.loc[floor, "value"]
                axes.plot(
                    value, y, marker="|", markersize=9, markeredgewidth=2, color=COLOURS[floor], linestyle=""
                )
            axes.plot([row["low"], row["high"]], [y, y], color=BEST, linewidth=1.6, solid_capstyle="butt")
            axes.plot(row["value"], y, marker="o", markersize=5.5, color=BEST)
        axes.axvline(0.5, color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel("AUROC, 95 % interval (positive patients)", loc="right")
        handles = [Line2D([], [], color=BEST, marker="o", markersize=5.5, label=best)]
        handles += [
            Line2D(
                [],
                [],
                color=COLOURS[floor],
                marker="|",
                markersize=9,
                markeredgewidth=2,
                linestyle="",
                label=floor,
            )
            for floor in floors
        ]
        handles.append(Line2D([], [], color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)), label="chance"))
        legend_beneath(figure, handles)
    return figure
