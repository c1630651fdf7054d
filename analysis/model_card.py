"""The model card of an exported head: what it was trained on, what it scores, what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from analysis.claims import average_claim, label_claims, ranged
from analysis.figures import OBJECTIVES
from analysis.report import limits_of, split_rows
from analysis.settings import FinishedTrial
from cohort.manifest import Cohort
from scoring.intervals import MIN_POSITIVE_PATIENTS
from vlm.encoders import Encoder

AVERAGES = ("macro_auroc", "macro_ap", "macro_f1", "lrap", "coverage_error")
PER_LABEL = ("auroc", "average_precision", "f1", "brier_skill")


def model_card(
    *,
    title: str,
    cohort: Cohort,
    encoder: Encoder,
    trial: FinishedTrial,
    objective: str,
    scores: pd.DataFrame | None,
    comparisons: pd.DataFrame | None,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """The card as Markdown.

    Args:
        title: name of the exported model.
        cohort, encoder: what the head was trained on.
        trial: the exported configuration; its `name` is its row in the tables.
        objective: macro_ap, macro_auroc or macro_f1.
        scores, comparisons: the analysis's tables (`analysis.scores.read_tables`); None, or tables without
            the trial's row, give a card that says that it was not scored on test.
        metadata: further lines, name -> value.
    """
    scored = scores is not None and trial.name in set(scores["setting"])
    compared = scored and comparisons is not None and (comparisons["first"] == trial.name).any()
    claims = []
    if compared:
        claims = [average_claim(scores, comparisons, trial.name)]
        claims += label_claims(scores, comparisons, cohort.labels, trial.name)
    splits = split_rows(cohort)
    train_NC = cohort.targets_NC(cohort.indices("train"))
    label_rows = [
        {
            "label": label,
            "cells": [f"{row['positives_C'][c]} ({row['patients_C'][c]})" for row in splits],
            "prevalence": f"{np.nanmean(train_NC[:, c]):.1%}" if not np.isnan(train_NC[:, c]).all() else "–",
        }
        for c, label in enumerate(cohort.labels)
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("model_card.md").render(
        title=title,
        cohort=cohort,
        labels=cohort.labels,
        encoder=encoder,
        trial=trial,
        objective=OBJECTIVES[objective],
        phantom=cohort.drawn,
        policy=", ".join(
            f"{name.replace('_', ' ')}: {rule}" for name, rule in cohort.policy.to_dict().items()
        ),
        splits=splits,
        label_rows=label_rows,
        averages=_averages(scores, trial.name) if scored else [],
        averaged=_labels_averaged(scores, trial.name) if scored else 0,
        tested=_tested(scores, trial, cohort) if scored else [],
        claims=claims,
        minimum=MIN_POSITIVE_PATIENTS,
        strategy=trial.strategy.replace("_", " "),
        shared=[label for label, shared in zip(cohort.labels, trial.shared_C, strict=True) if shared],
        parameters={
            name: f"{value:.4g}" if isinstance(value, float) else value
            for name, value in trial.params.items()
        },
        metadata=metadata or {},
        limits=limits_of(cohort, claims),
    )


def _averages(scores: pd.DataFrame, name: str) -> list[dict]:
    """The floors, the paper's configuration and the exported one; other finalists stay out."""
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    shown = [s for s in dict.fromkeys(scores["setting"]) if s == name or not s.startswith("best-")]
    return [
        {
            "name": f"**{setting}**" if setting == name else setting,
            "cells": [ranged(averages.loc[(setting, metric)]) for metric in AVERAGES],
        }
        for setting in shown
    ]


def _labels_averaged(scores: pd.DataFrame, name: str) -> int:
    row = scores[(scores["setting"] == name) & (scores["metric"] == "macro_auroc")].iloc[0]
    return int(row["labels_averaged"])


def _tested(scores: pd.DataFrame, trial: FinishedTrial, cohort: Cohort) -> list[dict]:
    own = scores[scores["setting"] == trial.name].set_index(["metric", "label"])
    rows = []
    for c, label in enumerate(cohort.labels):
        patients = int(own.loc[("auroc", label), "positive_patients"])
        claimed = patients >= MIN_POSITIVE_PATIENTS
        rows.append(
            {
                "label": label,
                "patients": patients,
                "cells": [ranged(own.loc[(metric, label)]) if claimed else "–" for metric in PER_LABEL],
                "threshold": f"{trial.thresholds_C[c]:.3f}",
            }
        )
    return rows
