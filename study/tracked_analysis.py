"""What MLflow holds of an analysis: every reading of test labels, and the report with its files."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from analysis.report_parts import report_files
from study.command import shown_command
from study.credentials import masked
from study.mlflow_store import artifacts_beside, is_gone, open_store, short
from study.study_runs import describe, log_figures
from study.tracked_study import REPORT_TAG


def record_test_access(
    uri: str, run_file: Path, test_access: Path, metrics: Mapping[str, float], report: Path
) -> str:
    """Note on the study's parent run how often the test split was opened, and what was read from it.

    Args:
        uri: absolute tracking URI.
        run_file: as `StudyTracker` keeps it.
        test_access: the run folder's own record, which is the truth; see `cohort.ledger.note_access`.
        report: the page; it, its tables and its figures are kept with the run (`analysis.report_parts`), and
            what is kept there of an earlier report and is no longer of this one is deleted.

    Returns:
        an empty string, or one line saying that the store refused: an access that is not counted there yet
        must be noticed.
    """
    try:
        client, analysis = open_store(uri), report.parent
        parent = run_file.read_text().strip()
        readings = "; ".join(map(_reading, test_access.read_text(errors="replace").splitlines()))
        client.set_tag(parent, "radtune.test_access", readings[-5000:])
        if report.exists():
            client.set_tag(parent, REPORT_TAG, str(report))
        log_figures(client, parent, metrics)
        describe(client, parent)
        place = client.get_experiment(client.get_run(parent).info.experiment_id).artifact_location
        beside = artifacts_beside(uri)
        if beside is not None and is_gone(place, beside):
            return (
                ""  # a moved store, until a resume begins an experiment here; the files lie in the run folder
            )
        files = report_files(analysis)
        for path in files:
            below = Path("analysis") / path.parent.relative_to(analysis)
            client.log_artifact(parent, str(path), artifact_path=below.as_posix())
        if report.exists():  # a run folder that was restored from a copy holds no analysis
            current = {f"analysis/{path.relative_to(analysis).as_posix()}" for path in files}
            _delete_artifacts(client, uri, parent, current)
    except Exception as error:
        return (
            f"MLflow ({masked(uri)}) could not record this access to the test split ({short(error)}); "
            f"{test_access} has it, and `{shown_command('sync', test_access.parent)}` sends it"
        )
    return ""


def _delete_artifacts(client: MlflowClient, uri: str, run: str, current: Collection[str]) -> None:
    """Delete what a run keeps below `analysis` and is not current; a store that cannot delete keeps it."""
    repository = get_artifact_repository(client.get_run(run).info.artifact_uri, tracking_uri=uri)
    folders = ["analysis"]
    with suppress(NotImplementedError):
        while folders:
            for one in client.list_artifacts(run, folders.pop()):
                if one.is_dir:
                    folders.append(one.path)
                elif one.path not in current:
                    repository.delete_artifacts(one.path)


def _reading(line: str) -> str:
    """A line of the record of test access in words; one that a crash cut off was an access too."""
    try:
        event = json.loads(line)
        return f"{event['when']} {event['why']}"
    except (ValueError, KeyError, TypeError):
        return "an access whose line is damaged"
