"""The best configuration on each label and domain: scores, counts, threshold, what it is better than."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import QUIET, STYLE, WIDTH, legend_beneath, new_figure, short
from analysis.judging.claims import Claim
from analysis.judging.evaluation_set import SplitCounts
from analysis.judging.judgement import Judgement
from analysis.number_format import NONE, score, share, strategy
from analysis.row_styles import BEST, row_style
from analysis.section import Cell, Part, Picture, Row, Section, Table, Words
from cohort.patients import fewer_patients
from scoring.intervals import MIN_PATIENTS
from scoring.label_groups import domain_targets
from trainables.baselines import LOGREG, METADATA, PIXELS, ZERO_SHOT

TITLE = "Label by label"

RANKINGS = {"auroc": "AUROC", "average_precision": "average\nprecision"}
DECIDED = {"precision": "precision", "recall": "recall", "specificity": "specificity", "f1": "F1"}
SHOWN = RANKINGS | {name: DECIDED[name] for name in ("f1", "precision", "recall")}
"""Of a domain."""
COUNTS = {
    "tp": "true\npositives",
    "fp": "false\npositives",
    "tn": "true\nnegatives",
    "fn": "false\nnegatives",
}


def run(judgement: Judgement) -> Section:
    own = judgement.scores[judgement.scores["setting"] == judgement.best].set_index(["metric", "label"])
    against = (ZERO_SHOT, METADATA, PIXELS, LOGREG, judgement.published)
    baselines = [id for id in against if judgement.drawn(id)]
    rule = judgement.answer.rule
    decided = "A probability at or above the threshold is a finding"
    if rule.multiclass:
        decided = "The label with the highest log(probability) − logit(threshold) is decided, one an image"
    note = f"{decided}. Threshold strategy: {strategy(rule.strategy, multiclass=rule.multiclass)}"
    if rule.shared_C.any():
        taken = "keep 0.5" if rule.multiclass else "take the global threshold"
        note += f"; “shared” marks labels that have too few positive patients there and {taken}"
    parts: list[Part] = [
        Picture(
            name="forest",
            figure=forest(judgement, baselines),
            alt=f"AUROC of {judgement.answer.name} on each label with its interval, beside the baselines; "
            "its numbers stand in the table.",
        ),
        _label_table(judgement, own),
        Words(
            text=f"A label that fewer than {MIN_PATIENTS} patients have, or have not, gets no claim.",
            kind="note",
        ),
        _decision_table(judgement, own),
        Words(
            text=f"{note}. Counts are test images. “All positive” decides for the label on every image, "
            "whatever it shows; decisions are marked where their F1 is not shown to be better than that.",
            kind="note",
        ),
    ]
    if judgement.split.domains:
        parts += [
            _domain_table(judgement, own),
            Words(
                text="A domain is positive where any of its labels is; its score is the highest of theirs.",
                kind="note",
            ),
        ]
    return Section(parts=parts, tables={"label_decisions": judgement.label_decisions})


def _order(judgement: Judgement) -> list[int]:
    """The labels' columns by the patients on their smaller side on test, the most first."""
    return np.argsort(-judgement.split.fewer_patients_C, kind="stable").tolist()


def _label_table(judgement: Judgement, own: pd.DataFrame) -> Table:
    claims = {claim.label: claim for claim in judgement.claims}
    return Table(
        columns=[
            "label",
            *RANKINGS.values(),
            "better than",
            "training\npositives",
            "test\npositives",
            "patients with\nand without",
        ],
        rows=[_label_row(judgement, own, claims[judgement.cohort.labels[c]], c) for c in _order(judgement)],
        wide=True,
        left=(0, 3),
    )


def _label_row(judgement: Judgement, own: pd.DataFrame, claim: Claim, c: int) -> Row:
    counts = {one.split: one for one in judgement.split.counts}
    averaged = judgement.split.averaged_C[c]
    first = Cell(text=claim.name, small="" if averaged else "not in the averages")
    positive, negative = counts["test"].patients_C[c], counts["test"].negative_patients_C[c]
    last = [_positives(counts["train"], c), _positives(counts["test"], c), f"{positive} · {negative}"]
    if claim.silent:
        why = claim.score.removesuffix(" on test")
        if claim.verdict == "counts only":
            why = counts["test"].fewer_side(c)
        silence = Cell(text=f"no claim: {why}", across=len(RANKINGS) + 1)
        return Row(cells=[first, silence, *last], kind="quiet")
    scores = [Cell.of_score(own.loc[(metric, claim.label)]) for metric in RANKINGS]
    return Row(cells=[first, *scores, Cell(chips=_chips(claim)), *last])


def _decision_table(judgement: Judgement, own: pd.DataFrame) -> Table:
    claims = {claim.label: claim for claim in judgement.claims}
    decisions = judgement.label_decisions.set_index("label")
    shared_C = judgement.answer.rule.shared_C
    rows = []
    for c in _order(judgement):
        claim, found = claims[judgement.cohort.labels[c]], decisions.iloc[c]
        threshold = Cell(text=score(found["threshold"]), small="shared" if shared_C[c] else "")
        cells = [claim.name, threshold, *(f"{int(found[count]):,}" for count in COUNTS)]
        if claim.silent:
            rows.append(Row(cells=[*cells, *[NONE] * len(DECIDED), NONE], kind="quiet"))
            continue
        scores = [Cell.of_score(own.loc[(metric, claim.label)]) for metric in DECIDED]
        mark = "no gain shown" if claim.idle_decisions else ""
        rows.append(Row(cells=[*cells, *scores, Cell(text=score(found["all_positive_f1"]), small=mark)]))
    return Table(
        title="Decisions",
        columns=["label", "threshold", *COUNTS.values(), *DECIDED.values(), "F1 of all\npositive"],
        rows=rows,
        wide=True,
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


def _domain_table(judgement: Judgement, own: pd.DataFrame) -> Table:
    split = judgement.split
    fewer_C = fewer_patients(domain_targets(split.targets_NC, split.domains), split.patients_N)
    rows = []
    for name, fewer in zip(split.domains, fewer_C, strict=True):
        scores = own.xs(f"domain:{name}", level="label")
        positives, patients = (int(scores[count].iloc[0]) for count in ("positives", "positive_patients"))
        claimed = fewer >= MIN_PATIENTS
        cells = [Cell.of_score(scores.loc[metric]) if claimed else NONE for metric in SHOWN]
        rows.append(Row(cells=[name, str(positives), str(patients), *cells]))
    names = [name.replace("\n", " ") for name in SHOWN.values()]
    return Table(title="By domain", columns=["domain", "positive images", "patients", *names], rows=rows)


def forest(judgement: Judgement, baselines: Sequence[str]) -> Figure:
    """AUROC of each label with its interval, and the values of `baselines`, ids of rows; words where patients
    are too few.

    Labels stand by the patients on their smaller side, the most first, then the macro average.
    """
    scores, cohort, best = judgement.scores, judgement.cohort, judgement.best
    auroc = scores[scores["metric"] == "auroc"].set_index(["setting", "label"])
    macro = scores[scores["metric"] == "macro_auroc"].set_index("setting")
    fewer = dict(zip(cohort.labels, judgement.split.fewer_patients_C.tolist(), strict=True))
    order = [cohort.labels[c] for c in _order(judgement)]
    styles = {id: row_style(judgement.row(id)) for id in baselines}
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.4 + 0.29 * (len(order) + 1))
        axes = figure.subplots()
        ticks = []
        for place, label in enumerate([*order, ""]):
            y = -place - (0.35 if label == "" else 0)
            row = auroc.loc[(best, label)] if label else macro.loc[best]
            ticks.append(
                (
                    y,
                    f"{short(cohort.label_name(label))}  ({fewer[label]})"
                    if label
                    else f"macro average of {int(row['labels_averaged'])}",
                )
            )
            if label and fewer[label] < MIN_PATIENTS:
                what = "on one side only" if fewer[label] == 0 else "too few for a claim"
                axes.text(0.5, y, f"  {what}", va="center", ha="left", color=QUIET, fontsize=9)
                continue
            for id, style in styles.items():
                value = auroc.loc[(id, label), "value"] if label else macro.loc[id, "value"]
                axes.plot(
                    value, y, marker="|", markersize=9, markeredgewidth=2, color=style.colour, linestyle=""
                )
            axes.plot([row["low"], row["high"]], [y, y], color=BEST, linewidth=1.6, solid_capstyle="butt")
            axes.plot(row["value"], y, marker="o", markersize=5.5, color=BEST)
        axes.axvline(0.5, color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel("AUROC, 95 % interval (patients on the smaller side)", loc="right")
        handles = [Line2D([], [], color=BEST, marker="o", markersize=5.5, label=judgement.answer.name)]
        handles += [
            Line2D(
                [],
                [],
                color=style.colour,
                marker="|",
                markersize=9,
                markeredgewidth=2,
                linestyle="",
                label=style.name,
            )
            for style in styles.values()
        ]
        handles.append(Line2D([], [], color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)), label="chance"))
        legend_beneath(figure, handles)
    return figure
