"""Choice and luck: the best configurations, their spread over folds, and what is left of the best chosen
anew."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import QUIET, STYLE, WIDTH, legend_beneath, new_figure
from analysis.judging.judgement import Judgement
from analysis.number_format import counted, score, signed
from analysis.row_styles import BEST, OTHER, RowStyle, row_style
from analysis.section import Part, Picture, Section, Words
from scoring.choice import paired_interval
from scoring.objectives import OBJECTIVES
from trainables.records import TrialRecord

TITLE = "Choice and luck"


def run(judgement: Judgement) -> Section:
    ranked = [one for one in judgement.study.best if one.fold_objectives]
    if not ranked:
        text = "This study chose by one validation split, on which a score has no spread to draw."
        if judgement.study.repeats:
            text += " Its best configurations trained again stand under “How much was luck?”."
        return Section(parts=[Words(text=text)])
    objective = OBJECTIVES[judgement.study.objective].title
    scores_KF = np.array([one.fold_objectives for one in ranked])
    parts: list[Part] = [
        Words(text=_in_words(judgement, ranked, scores_KF, objective)),
        Picture(
            name="choice",
            figure=spread_over_folds(ranked, _plain_folds(judgement), objective),
            alt=f"{objective} of the best {len(ranked)} configurations on each fold, with their means, "
            "beside the plain logistic regression.",
            caption="One dot per fold, a bar the mean of the folds; the dashed line is the mean of the plain "
            "logistic regression. The order is that of the choice, by all folds' scores together.",
        ),
    ]
    return Section(parts=parts)


def _in_words(
    judgement: Judgement, ranked: Sequence[TrialRecord], scores_KF: np.ndarray, objective: str
) -> str:
    said = [
        f"Each of the best {counted(len(ranked), 'configuration')} was scored on {scores_KF.shape[1]} "
        "folds of patients that it did not train on."
    ]
    # A fold that lacks both classes of every label that counts has no score.
    scored_KF = scores_KF[:, np.isfinite(scores_KF).all(axis=0)]
    if len(ranked) > 1 and scored_KF.shape[1] > 1:
        mean, low, high = paired_interval(scored_KF[0], scored_KF[1])
        apart = "a difference that the folds show" if low > 0 else "a difference that the folds do not show"
        first, second = ranked[0].number, ranked[1].number
        said.append(
            f"Trial {first} and trial {second} differ by {signed(mean)} on average ({signed(low)} to "
            f"{signed(high)}), {apart}."
        )
    study, best = judgement.study, ranked[0]
    if np.isfinite(study.best_nested_objective):
        said.append(
            f"Trial {best.number}, the best, has {objective} {score(best.objective)} on the scores that it "
            "was chosen by. Where each fold's patients are scored by the configuration that is the best "
            f"without them, {score(study.best_nested_objective)} remains."
        )
    if np.isfinite(study.nested_objective):
        reached = judgement.answer.objective
        said.append(
            f"The final model has {score(reached)} on the scores that it was chosen by, and "
            f"{score(study.nested_objective)} where the configurations that are weighed, the members and "
            "their weights are chosen anew without the patients who are scored. These patients still had a "
            "part in which configurations the search proposed and which it stopped early."
        )
    return " ".join(said)


def _plain_folds(judgement: Judgement) -> tuple[RowStyle, list[float]] | None:
    """The better plain regression and its objective on each fold; None where the study did not keep it."""
    record = judgement.study.baselines.get(judgement.plain)
    if record is None or not record.fold_objectives:
        return None
    return row_style(judgement.row(judgement.plain)), record.fold_objectives


def spread_over_folds(
    ranked: Sequence[TrialRecord], plain: tuple[RowStyle, Sequence[float]] | None, objective: str
) -> Figure:
    """One line per trial, the best on top: a dot per fold and their mean, plain regression beneath."""
    rows = [
        (f"trial {one.number}", one.fold_objectives, BEST if not k else OTHER) for k, one in enumerate(ranked)
    ]
    if plain:
        rows.append((plain[0].name, plain[1], plain[0].colour))
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.0 + 0.24 * len(rows))
        axes = figure.subplots()
        for place, (_, values, colour) in enumerate(rows):
            axes.plot(values, [-place] * len(values), "o", color=colour, markersize=3.2, alpha=0.55)
            axes.plot([np.nanmean(values)] * 2, [-place - 0.32, -place + 0.32], color=colour, linewidth=2.2)
        if plain:
            axes.axvline(np.nanmean(plain[1]), color=plain[0].colour, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_yticks([-place for place in range(len(rows))], [name for name, _, _ in rows])
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(f"{objective}, on each fold")
        dot = Line2D(
            [], [], marker="o", linestyle="", color=QUIET, markersize=3.2, alpha=0.55, label="a fold"
        )
        bar = Line2D(
            [], [], marker="|", linestyle="", color=QUIET, markersize=9, markeredgewidth=2.2, label="mean"
        )
        legend_beneath(figure, [dot, bar])
    return figure
