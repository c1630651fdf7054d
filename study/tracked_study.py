"""What MLflow records of a study as a whole, beside its configurations; imports no MLflow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.config import StudyConfig
from study.provenance import revision
from study.resumable import kept_settings

BEST_TAG = "radtune.best"
"""On the run of the best configuration on validation."""
BEST_RUN_TAG = "radtune.best_run"
"""On the study's run: the id of that one."""
REPORT_TAG = "radtune.report"
"""On the study's run: where its report lies, once it is written."""
OBJECTIVE_TAG = "radtune.objective"
"""On the study's run: the metric of a configuration that it maximised."""
_END = "\n\n---\n"
"""What people write into a description after this line stays."""


@dataclass(frozen=True, kw_only=True)
class TrackedStudy:
    """A study as MLflow keeps it."""

    name: str

    tags: Mapping[str, str]
    """Of the study's run, which every configuration's run carries too."""

    params: Mapping[str, Any]
    """What holds for all of its configurations, and cannot change on resume."""

    objective: str
    """The metric of a configuration that is maximised, by its name in MLflow."""

    searched: tuple[str, ...]
    """The parameters that every configuration has and that are searched."""

    cohort: str
    """Its folder."""

    cohort_hash: str
    labels: tuple[str, ...]


def tracked_study(config: StudyConfig, identity: Mapping[str, Any]) -> TrackedStudy:
    """What MLflow records of a study; `identity` is that of its inputs, see `study.inputs`."""
    space = importlib.import_module(f"search_spaces.{config.trainable}").SPACE
    fixed, ranges = config.search.fixed, config.search.ranges
    return TrackedStudy(
        name=config.name,
        tags={
            "radtune.study": config.name,
            "radtune.trainable": config.trainable,
            "radtune.encoder": config.encoder,
            "radtune.encoder_fingerprint": identity["encoder_fingerprint"],
            "radtune.cohort_hash": identity["cohort_hash"],
            "mlflow.source.git.commit": revision(),
        },
        params={"cohort": Path(config.cohort).name} | kept_settings(config),
        objective=f"val.{config.search.objective}",
        searched=tuple(
            name
            for name, parameter in space.parameters.items()
            if parameter.under is None and len(space.choices(name, fixed, ranges)) > 1
        ),
        cohort=config.cohort,
        cohort_hash=identity["cohort_hash"],
        labels=tuple(identity["labels"]),
    )


def description(
    params: Mapping[str, str], tags: Mapping[str, str], metrics: Mapping[str, float], runs_page: str
) -> str:
    """What was studied and what came of it, Markdown, from what MLflow keeps of the study's run.

    Args:
        runs_page: where its configurations are shown, below the UI's address.
    """
    objective = tags[OBJECTIVE_TAG]
    measure = objective.removeprefix("val.")
    results = [
        ("best configuration, validation", objective),
        ("final model, validation", "val.study"),
        ("final model, chosen anew without the patients who are scored", "val.study_nested"),
        ("best configuration, chosen so", "val.best_nested"),
        ("plain logistic regression, validation", "val.logreg"),
        ("final model, test", f"test.{measure}"),
    ]
    kind = tags["radtune.trainable"].replace("_", " ")
    lines = [
        f"A {kind} of {tags['radtune.encoder']} on the cohort {params['cohort']}; "
        f"{metrics.get('configurations', 0):.0f} configurations, chosen by "
        f"{params['search.selection'].replace('_', ' ')}.",
        "",
        f"| | {measure} |",
        "|---|--:|",
        *(f"| {what} | {metrics[name]:.3f} |" for what, name in results if name in metrics),
        "",
        f"[All configurations side by side]({runs_page.removeprefix('/')})",
    ]
    if report := tags.get(REPORT_TAG):
        lines += ["", f"Report: `{report}`, and under Artifacts as `analysis/{Path(report).name}`"]
    return "\n".join(lines)


def with_own_words(description: str, before: str) -> str:
    """A new description with what somebody wrote below, or in place of, the one before."""
    return description + _END + (before.partition(_END)[2] if _END in before else before)
