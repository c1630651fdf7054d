"""The table of predictions that a study ends with: baselines, the published configuration, the best
configurations and the answer, each with its scores of every image, and no label.

It lies in the run folder as `predictions.arrow` and is computed anew (`study.study_rows`) where it is of
another state of the study: more configurations, another `analysis.top`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from cohort.version import VERSION
from scoring.predictions import OTHER_STUDY, Predictions, read_predictions
from study.config import StudyConfig
from study.run_folder import RunFolder


def state_of_rows(config: StudyConfig, run: RunFolder) -> str:
    """64 hexadecimal digits of what the rows follow from."""
    # Of towers at a URI the copies on this machine: judging waits for no download.
    tuned = sorted(run.tuned_answer(config.shared_folder).path.glob("*"))
    content = [
        VERSION,
        run.identity(),
        config.analysis.top,
        [_sha256(file) for file in (run.answer_file, *tuned) if file.is_file()],
        [(number, one.state, repr(one.objective)) for number, one in sorted(run.records().items())],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_predictions(config: StudyConfig, run: RunFolder) -> Predictions | None:
    """The table in the run folder; None where there is none of the study's present state."""
    if not run.predictions_file.exists():
        return None
    try:
        predictions = read_predictions(run.predictions_file)
    except ValueError:
        return None  # it follows from the rest, and is written anew
    return predictions if predictions.facts.get("state") == state_of_rows(config, run) else None


def beside_another_study(predictions: Predictions, other: Predictions) -> Predictions:
    """With the answer of another study on the same cohort as one more row.

    Args:
        other: of the same images in the same order.
    """
    answer = other.answer
    row = replace(
        answer,
        id=f"{OTHER_STUDY}/{other.content_hash[:16]}",
        # No other row's name holds a blank before one.
        name=f"study {other.facts['study']}",
        role=OTHER_STUDY,
    )
    return replace(predictions, rows=(*predictions.rows, row))
