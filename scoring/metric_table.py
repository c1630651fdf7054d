"""The metrics of every score table, a row each: what a metric takes, of what it is one value, its bounds.

To add one, write its function in `scoring.metrics` and its row in `METRICS` here; its average over labels,
its intervals and its rows in `test_scores.csv` follow from the row. A column of the report is its section's.

Shape legend: N images, C labels, R patients, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scoring import grades, metric_shares, metrics
from scoring.label_groups import macro
from scoring.metrics import Confusion
from scoring.model_output import ModelOutput, Resampled


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row of the table.

    >>> metric = next(metric for metric in METRICS if metric.name == "coverage_error")
    >>> metric.scope, metric.bounds_among(14)
    ('image', (0.0, 14.0))
    """

    name: str
    takes: Literal["scores", "decisions", "probs"]
    scope: Literal["label", "class", "image", "micro"]
    """Of what it is one value: a label, an image, or the counts of all labels. A table shows a label's values
    and their average over labels, and the mean over images. A class is a label of which only the average is
    shown, over all that occur."""
    values: Callable[[ModelOutput], np.ndarray]
    """float64 (C,), (N,) or (), by scope; NaN where the data leave it undefined."""
    share: Callable[[ModelOutput], tuple[np.ndarray, np.ndarray]] | None = None
    """Of what rises with a share of entries: hits and entries of each image, (N, C), or (N, 1) of what is no
    label's own; bool, counts, or hits in part in [0, 1]. None: its interval is of `replicates`."""
    of_share: Callable[[np.ndarray, ModelOutput], np.ndarray] = lambda share, _: share
    """The value that belongs to a share."""
    replicates: Callable[[Resampled, np.ndarray], np.ndarray] | None = None
    """Of the label's values (C, B) or of the mean over images (B,); the second argument is what `values`
    gave."""
    interval: Literal["spread", "auroc", "mcc"] = "spread"
    """Whose interval of the replicates it has, see `scoring.score_intervals`."""
    constant: bool = False
    """Whether it is the same, among whatever patients, for a model that says the same of every image."""
    bounds: tuple[float, float | Literal["labels"]] = (0.0, 1.0)
    """Lowest value, which may be minus infinity, and highest, "labels" for how many there are."""
    average: str = ""
    """Name of the average over labels where that is not macro_<name>."""
    of: Literal["any", "independent", "multiclass", "ordinal"] = "any"
    """Labels of which it is shown: of multiclass ones some say the same as others; ordinal ones are such."""

    def named(self, label: str) -> str:
        """Its name in a table, of a label or (empty) of the average."""
        if self.scope != "label" or label:
            return self.name
        return self.average or f"macro_{self.name}"

    def bounds_among(self, labels: int) -> tuple[float, float]:
        """`bounds` where there are so many labels."""
        low, high = self.bounds
        return low, float(labels) if high == "labels" else high


def _of_decisions(
    name: str,
    function: Callable[[Confusion], np.ndarray],
    share: Callable[[ModelOutput], tuple[np.ndarray, np.ndarray]],
    **more,
) -> Metric:
    return Metric(
        name=name,
        takes="decisions",
        scope="label",
        values=lambda p: function(p.counts),
        share=share,
        **more,
    )


def _micro(
    name: str,
    function: Callable[[Confusion], np.ndarray],
    share: Callable[[ModelOutput], tuple[np.ndarray, np.ndarray]],
    **more,
) -> Metric:
    return Metric(
        name=name,
        takes="decisions",
        scope="micro",
        values=lambda p: function(p.counts.pooled()),
        share=lambda p: tuple(of_NC.sum(axis=1, keepdims=True) for of_NC in share(p)),
        of="independent",
        **more,
    )


def _of_image(name: str, function: Callable[..., np.ndarray], **more) -> Metric:
    return Metric(
        name=name,
        takes="scores",
        scope="image",
        values=lambda p: function(p.targets_NC, p.scores_NC),
        replicates=lambda r, values_N: r.mean(values_N),
        of="independent",
        **more,
    )


METRICS = (
    Metric(
        name="average_precision",
        takes="scores",
        scope="label",
        values=lambda p: metrics.average_precision(p.targets_NC, p.scores_NC),
        replicates=lambda r, _: r.ranking.average_precision,
        average="macro_ap",
    ),
    Metric(
        name="auroc",
        takes="scores",
        scope="label",
        values=lambda p: metrics.auroc(p.targets_NC, p.scores_NC),
        replicates=lambda r, _: r.ranking.auroc,
        interval="auroc",
        constant=True,
    ),
    _of_decisions("f1", metrics.f1, metric_shares.of_either, of_share=metric_shares.f1_of),
    _of_decisions("precision", metrics.precision, metric_shares.of_decided),
    _of_decisions("recall", metrics.recall, metric_shares.of_positives, constant=True),
    _of_decisions("specificity", metrics.specificity, metric_shares.of_negatives, constant=True),
    Metric(
        name="mcc",
        takes="decisions",
        scope="label",
        values=lambda p: metrics.mcc(p.counts),
        replicates=lambda r, _: metrics.mcc(r.counts),
        interval="mcc",
        bounds=(-1.0, 1.0),
        constant=True,
    ),
    Metric(
        name="brier",
        takes="probs",
        scope="label",
        values=lambda p: metrics.brier(p.errors),
        share=metric_shares.of_squared_errors,
    ),
    Metric(
        name="brier_skill",
        takes="probs",
        scope="label",
        values=lambda p: metrics.brier_skill(p.errors, p.prevalence_errors),
        replicates=lambda r, _: metrics.brier_skill(r.errors, r.prevalence_errors),
        bounds=(-np.inf, 1.0),
    ),
    Metric(
        name="accuracy",
        takes="decisions",
        scope="micro",
        values=lambda p: metrics.accuracy(p.counts),
        share=metric_shares.of_right,
        of="multiclass",
    ),
    Metric(
        name="balanced_accuracy",
        takes="decisions",
        scope="class",
        values=lambda p: metrics.recall(p.counts),
        share=metric_shares.of_positives,
        constant=True,
        of="multiclass",
    ),
    Metric(
        name="cohen_kappa",
        takes="decisions",
        scope="micro",
        values=lambda p: metrics.cohen_kappa(p.counts),
        share=metric_shares.of_right,
        of_share=metric_shares.kappa_of,
        bounds=(-1.0, 1.0),
        constant=True,
        of="multiclass",
    ),
    Metric(
        name="quadratic_kappa",
        takes="decisions",
        scope="micro",
        values=lambda p: grades.quadratic_kappa(p.targets_NC, p.decisions_NC),
        share=metric_shares.of_near_grades,
        of_share=metric_shares.quadratic_kappa_of,
        bounds=(-1.0, 1.0),
        constant=True,
        of="ordinal",
    ),
    Metric(
        name="mean_absolute_error",
        takes="decisions",
        scope="micro",
        values=lambda p: np.nanmean(grades.grade_error(p.targets_NC, p.decisions_NC)),
        share=metric_shares.of_grade_errors,
        of_share=metric_shares.grade_error_of,
        bounds=(0.0, "labels"),
        of="ordinal",
    ),
    _micro("micro_f1", metrics.f1, metric_shares.of_either, of_share=metric_shares.f1_of),
    _micro("micro_precision", metrics.precision, metric_shares.of_decided),
    _micro("micro_recall", metrics.recall, metric_shares.of_positives),
    Metric(
        name="exact_match",
        takes="decisions",
        scope="image",
        values=lambda p: metrics.exact_match(p.targets_NC, p.decisions_NC),
        share=metric_shares.of_exact,
        of="independent",
    ),
    _of_image("lrap", metrics.lrap),
    _of_image("coverage_error", metrics.coverage_error, bounds=(0.0, "labels")),
    _of_image("ranking_loss", metrics.ranking_loss),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """One number of a score table, and what it rests on.

    >>> scores_NC = np.array([[0.9], [0.8], [0.7], [0.1]])
    >>> targets_NC = np.array([[1], [0], [1], [0]])
    >>> output = ModelOutput(targets_NC=targets_NC, scores_NC=scores_NC, decisions_NC=scores_NC > 0.5)
    >>> score = by_label(output, ["Edema"])[1]
    >>> score.name, score.label, score.value, score.positives, score.images
    ('auroc', 'Edema', 0.75, 2, 4)
    """

    metric: Metric
    label: str
    """The label, `domain:<name>`, or empty for an average."""
    value: float
    """NaN where the data leave it undefined."""
    positives: int
    """Positive entries."""
    images: int
    labels_C: np.ndarray
    """bool: the labels; none where a label's own value is undefined."""

    @property
    def name(self) -> str:
        return self.metric.named(self.label)

    @property
    def labels_averaged(self) -> int:
        """1 or 0 for a label or domain."""
        return int(self.labels_C.sum())


def averages(
    predictions: ModelOutput, averaged_C: np.ndarray | None = None, table: Sequence[Metric] = METRICS
) -> list[Score]:
    """The average of every metric that can be taken of these predictions, in the order of the table.

    Args:
        predictions: of N images and C labels.
        averaged_C: bool, the labels of the macro averages; None: all. Micro averages, means over images and
            averages of classes are over all labels.
        table: the metrics.

    >>> scores_NC = np.array([[0.9], [0.8], [0.7], [0.1]])
    >>> targets_NC = np.array([[1], [0], [1], [0]])
    >>> output = ModelOutput(targets_NC=targets_NC, scores_NC=scores_NC, decisions_NC=scores_NC > 0.5)
    >>> {score.name: score.value for score in averages(output)[1:3]}
    {'macro_auroc': 0.75, 'macro_f1': 0.8}
    """
    known_NC, positive_NC = ~np.isnan(predictions.targets_NC), predictions.targets_NC == 1
    averaged_C = np.ones(known_NC.shape[1], dtype=bool) if averaged_C is None else averaged_C
    scores = []
    for metric in _applicable(table, predictions):
        values = metric.values(predictions)
        if metric.scope in ("label", "class"):
            over_C = ~np.isnan(values) & (averaged_C if metric.scope == "label" else True)
            over_N = known_NC[:, over_C].any(1)
            value = macro(values, over_C).value
        elif metric.scope == "image":
            over_N = ~np.isnan(values)
            over_C = known_NC[over_N].any(0)
            value = values[over_N].mean() if over_N.any() else np.nan
        else:
            over_N, over_C, value = known_NC.any(1), known_NC.any(0), values
        positives = int(positive_NC[np.ix_(over_N, over_C)].sum())
        scores.append(
            Score(
                metric=metric,
                label="",
                value=float(value),
                positives=positives,
                images=int(over_N.sum()),
                labels_C=over_C,
            )
        )
    return scores


def by_label(predictions: ModelOutput, labels: Sequence[str]) -> list[Score]:
    """Every metric of each label, metric by metric in the order of the table; `labels` names the columns.

    >>> scores_NC = np.array([[0.9, 0.1], [0.1, 0.9]])
    >>> output = ModelOutput(targets_NC=np.eye(2), scores_NC=scores_NC, decisions_NC=scores_NC > 0.5)
    >>> [(score.name, score.label) for score in by_label(output, ["Edema", "Mass"])[:2]]
    [('average_precision', 'Edema'), ('average_precision', 'Mass')]
    """
    targets_NC = predictions.targets_NC
    if len(labels) != targets_NC.shape[1]:
        raise ValueError(f"Expected {targets_NC.shape[1]} `labels`, one a column, but got {len(labels)}.")
    positives_C, images_C = (targets_NC == 1).sum(0), (~np.isnan(targets_NC)).sum(0)
    return [
        Score(
            metric=metric,
            label=label,
            value=float(value),
            positives=int(positives_C[c]),
            images=int(images_C[c]),
            labels_C=(np.arange(len(labels)) == c) & ~np.isnan(value),
        )
        for metric in _applicable(METRICS, predictions)
        if metric.scope == "label"
        for c, (label, value) in enumerate(zip(labels, metric.values(predictions), strict=True))
    ]


def _applicable(table: Sequence[Metric], predictions: ModelOutput) -> list[Metric]:
    shown = {"any", "multiclass" if predictions.multiclass else "independent"}
    if predictions.ordinal:
        shown.add("ordinal")
    return [
        metric
        for metric in table
        if (metric.takes != "probs" or predictions.probs_NC is not None) and metric.of in shown
    ]
