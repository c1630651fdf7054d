"""The experiment of MLflow in which all studies of a store are kept, and the pages of its UI."""

from __future__ import annotations

import itertools

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from cohort.errors import InputError
from study.credentials import masked
from study.mlflow_store import artifacts_beside, is_gone, open_store, short
from study.runs_view import STUDIES, own_views, page_of_view

EXPERIMENT = "radtune"
KIND_TAG = "mlflow.experimentKind"
"""Says to MLflow's UI that these are training runs; it opens on traces of language models otherwise."""


def experiment_of_studies(client: MlflowClient, uri: str) -> tuple[str, str]:
    """The id of the experiment of all studies of a store, and what is to be said where a new one begins since
    the usual one was deleted; or "".

    MLflow keeps the absolute place of an experiment's artifacts. Where a SQLite store was moved and that
    place is gone, a new experiment begins here, instead of a folder where nobody looks for it.
    """
    # Otherwise artifacts of a SQLite store land in ./mlruns of whoever logs them.
    location = artifacts_beside(uri)
    name, found, renamed = _not_deleted(client, EXPERIMENT)
    if found is not None and location is not None and is_gone(found.artifact_location, location):
        name, found, renamed = _not_deleted(client, f"{EXPERIMENT} in {location.parent}")
    if found is not None:
        return found.experiment_id, renamed
    try:
        kind = {KIND_TAG: "custom_model_development"}
        return client.create_experiment(name, location and location.as_uri(), tags=kind), renamed
    except MlflowException as error:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise error
        return found.experiment_id, renamed  # another study that began at the same moment was faster


def _not_deleted(client: MlflowClient, wanted: str) -> tuple[str, Experiment | None, str]:
    """The name, and where it exists the experiment, that is to be used under a name; and what is to be said.

    MLflow keeps the name of an experiment that was deleted. Restored, it would bring back every run that
    was ever deleted in it, so another is taken, with a number behind the name.
    """
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted} {number}"
        found = client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != LifecycleStage.DELETED:
            break
    renamed = ""
    if found is None and number > 1:
        renamed = (
            f"MLflow's experiment {wanted!r} was deleted, so {name!r} begins; MLflow's UI restores what "
            "was deleted"
        )
    return name, found, renamed


def pages(uri: str) -> list[tuple[str, str]]:
    """(name, page below the UI's address) of each study's view, the latest first, and that of all studies at
    last; none where nothing has been logged.

    Raises:
        InputError: the store cannot be opened.
    """
    try:
        found = open_store(uri).search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'")
    except Exception as error:
        raise InputError(f"--uri {masked(uri)}: MLflow cannot open this store ({short(error)})") from None
    return [
        (name, page_of_view(experiment.experiment_id, key, "TABLE" if key == STUDIES else "CHART"))
        for experiment in found
        for key, name in own_views(experiment.tags).items()
    ]
