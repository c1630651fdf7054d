"""The model card of an exported predictor: what it was trained on, what it scores, what it is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from analysis.judging.claims import Claim, averaged_over
from analysis.judging.evaluation_set import SplitCounts
from analysis.judging.judgement import Judgement
from analysis.judging.label_decisions import all_positive_f1
from analysis.judging.sections.limits import limits_of
from analysis.number_format import NONE, ranged, score, share, strategy
from cohort.manifest import Cohort
from scoring.intervals import MIN_PATIENTS
from scoring.objectives import OBJECTIVES
from scoring.predictions import TRIAL
from search_spaces.publication import PUBLICATION, PUBLISHED_NAME
from vlm.encoder_names import shown
from vlm.predictor import Predictor

_AVERAGES = {"macro_auroc": "macro AUROC", "macro_ap": "macro AP", "macro_f1": "macro F1"}
AVERAGES = _AVERAGES | {"lrap": "LRAP", "coverage_error": "coverage error"}
AVERAGES_OF_MULTICLASS = _AVERAGES | {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "cohen_kappa": "Cohen's kappa",
}
AVERAGES_OF_ORDINAL = _AVERAGES | {
    "accuracy": "accuracy",
    "quadratic_kappa": "quadratic weighted kappa",
    "mean_absolute_error": "mean absolute error in grades",
}
PER_LABEL = ("auroc", "average_precision", "f1", "specificity", "brier_skill")


def model_card(
    predictor: Predictor,
    cohort: Cohort,
    *,
    own_tower: bool,
    objective: str,
    row: str,
    judgement: Judgement | None,
    split_counts: Sequence[SplitCounts],
    provenance: Mapping[str, str],
) -> str:
    """The card as Markdown.

    Args:
        predictor: the exported trial of a study; its name is its row in the tables.
        cohort: what it was trained on.
        own_tower: whether its image tower was trained with its head, instead of frozen.
        objective: one of `scoring.objectives.OBJECTIVES`.
        row: the id of its row in the study's predictions; empty where it has none.
        judgement: of these on the test split; without one, or without the row, the card says that the
            predictor was not scored on test.
        split_counts: of every split that the cohort has.
        provenance: further lines, name -> value.
    """
    rule, labels = predictor.rule, predictor.labels
    of_classes = AVERAGES_OF_ORDINAL if cohort.ordinal else AVERAGES_OF_MULTICLASS
    metrics = of_classes if rule.multiclass else AVERAGES
    scored = judgement is not None and judgement.has(row)
    names = {label: cohort.label_name(label) for label in labels}
    test = next((counts for counts in split_counts if counts.split == "test"), None)
    claims = []
    if scored and row == judgement.best:
        *of_labels, on_average = judgement.claims
        claims = [on_average, *of_labels]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown, not HTML
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("model_card.md").render(
        cohort=cohort,
        encoder=predictor.encoder,
        encoder_name=shown(predictor.encoder.name),
        geometry=predictor.encoder.geometry,
        mean=_numbers(predictor.encoder.mean),
        std=_numbers(predictor.encoder.std),
        feature_order=_feature_order(predictor.encoder.blocks),
        heads=len(predictor.heads),
        ranks_only=predictor.ranks_only,
        origin=predictor.origin,
        own_tower=own_tower,
        chosen=not predictor.origin.preset and row != "",
        labels=labels,
        objective=OBJECTIVES[objective].title,
        policy=cohort.policy.described(cohort.labels),
        splits=split_counts,
        label_rows=_label_rows(names, split_counts),
        test=test,
        metrics=list(metrics.values()),
        averages=_averages(judgement, row, metrics) if scored else [],
        averaged=_averaged(judgement, row) if scored else "",
        tested=_tested(judgement.scores, row, predictor, test, claims) if scored else [],
        paper=_published(judgement) if scored else "",
        claims=claims,
        minimum=MIN_PATIENTS,
        strategy=strategy(rule.strategy, multiclass=rule.multiclass),
        multiclass=rule.multiclass,
        shared=np.array(labels)[rule.shared_C].tolist(),
        parameters={
            name: f"{value:.4g}" if isinstance(value, float) else value
            for name, value in _spread(predictor.origin.params).items()
        },
        provenance={name: value for name, value in provenance.items() if value},
        limits=limits_of(cohort, claims),
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.8g}" for value in values)


def _feature_order(blocks: Mapping[str, tuple[int, ...]]) -> str:
    """`192 projected, then 8 x 192 deep`: the columns of a row of features, from the first on."""
    return ", then ".join(
        f"{' + '.join(map(str, widths)) if len(set(widths)) > 1 else _times(widths)} {kind}"
        for kind, widths in blocks.items()
    )


def _times(widths: tuple[int, ...]) -> str:
    return str(widths[0]) if len(widths) == 1 else f"{len(widths)} x {widths[0]}"


def _spread(params: Mapping[str, Any]) -> dict[str, Any]:
    """One line per parameter, of an answer of several heads one a member: its weight."""
    weights = params.get("weights", {})
    rest = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in params.items()
        if name != "weights"
    }
    return rest | {f"weight of {name}": weight for name, weight in weights.items()}


def _escaped(value: Any) -> Any:
    """Words of others, labels say, as they stand in Markdown: none ends a cell of a table or a line, begins
    HTML, or makes a link or an image, which whoever opens the card would fetch."""
    if not isinstance(value, str):
        return value
    for special, harmless in (("|", "\\|"), ("<", "&lt;"), ("](", "]\\("), ("][", "]\\[")):
        value = value.replace(special, harmless)
    return " ".join(value.splitlines())


def _label_rows(names: Mapping[str, str], splits: Sequence[SplitCounts]) -> list[dict[str, Any]]:
    """`names`: label -> how it is said to people. Both stand here: a label names a column of predictions."""
    train = next(counts for counts in splits if counts.split == "train")
    return [
        {
            "label": label if name == label else f"{label} ({name})",
            "cells": [f"{counts.positives_C[c]} ({counts.patients_C[c]})" for counts in splits],
            "prevalence": share(train.positives_C[c], train.images - train.masked_C[c]),
        }
        for c, (label, name) in enumerate(names.items())
    ]


def _published(judgement: Judgement) -> str:
    """What the row of the published configuration is; empty where there is none."""
    if not judgement.published:
        return ""
    return f" `{judgement.names[judgement.published]}` is {PUBLISHED_NAME} ({PUBLICATION})."


def _averages(judgement: Judgement, exported: str, metrics: Iterable[str]) -> list[dict[str, Any]]:
    """Every row but those of other configurations."""
    scores = judgement.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    return [
        {
            "name": f"**{row.name}**" if row.id == exported else row.name,
            "cells": [ranged(averages.loc[(row.id, metric)]) for metric in metrics],
        }
        for row in judgement.rows
        if row.id == exported or row.role != TRIAL
    ]


def _averaged(judgement: Judgement, row: str) -> str:
    """Of how many labels the averages are, and how many of them are rare."""
    scores, tests = judgement.scores, judgement.comparisons
    own = scores[(scores["setting"] == row) & (scores["metric"] == "macro_auroc")].iloc[0]
    on_average = tests[tests["family"] == "average"].iloc[0]
    return averaged_over(int(own["labels_averaged"]), on_average, judgement.label_names)


def _tested(
    scores: pd.DataFrame, row: str, predictor: Predictor, test: SplitCounts, claims: Sequence[Claim]
) -> list[dict[str, Any]]:
    own = scores[scores["setting"] == row].set_index(["metric", "label"])
    idle = {claim.label for claim in claims if claim.idle_decisions}
    all_positive_C = all_positive_f1(np.array(test.positives_C), np.array(test.negatives_C))
    rows = []
    for c, (label, threshold) in enumerate(zip(predictor.labels, predictor.rule.thresholds_C, strict=True)):
        positive, negative = test.patients_C[c], test.negative_patients_C[c]
        claimed = min(positive, negative) >= MIN_PATIENTS
        # There is no Brier skill of scores that only rank.
        cells = {
            metric: ranged(own.loc[(metric, label)]) if claimed and (metric, label) in own.index else NONE
            for metric in PER_LABEL
        }
        recall, specificity = (own.loc[(metric, label), "value"] for metric in ("recall", "specificity"))
        cells["f1"] += " †" if label in idle else ""
        rows.append(
            {
                "label": label,
                "patients": f"{positive} / {negative}",
                "cells": list(cells.values()),
                "decisions": _decisions(test, c, recall, specificity),
                "all_positive": score(all_positive_C[c]),
                "threshold": score(threshold),
            }
        )
    return rows


def _decisions(test: SplitCounts, c: int, recall: float, specificity: float) -> str:
    """`TP / FP / TN / FN`; a missing share is one of no image."""
    positives, others = test.positives_C[c], test.negatives_C[c]
    tp, tn = round(np.nan_to_num(recall) * positives), round(np.nan_to_num(specificity) * others)
    return f"{tp} / {others - tn} / {tn} / {positives - tp}"
