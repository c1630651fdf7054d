"""An exported bundle in MLflow's model registry, as code and weights that need no checkout of radtune."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from PIL import Image

from cohort.errors import InputError
from study.command import shown_command
from study.credentials import masked
from study.mlflow_store import open_store, short
from study.rooms import REPOSITORY
from vlm.bundle import Bundle

CODE = Path(__file__).with_name("served_bundle.py")
CODE_ROOMS = ("cohort", "scoring", "vlm")
"""What the code imports, which travels with the model."""
REQUIREMENTS = (
    "filelock",
    "huggingface_hub",
    "imagecodecs",
    "ImageHash",
    "iterative-stratification",
    "mlflow",
    "numpy",
    "open_clip_torch",
    "pandas",
    "Pillow",
    "pyarrow",
    "pydantic",
    "pydicom",
    "PyYAML",
    "safetensors",
    "scikit-learn",
    "scipy",
    "simplejpeg",
    "timm",
    "torch",
    "torchvision",
    "tqdm",
    "transformers",
)
"""Packages that these rooms import; the model wants them in the versions installed here."""


def registered_name(text: str) -> tuple[str, str]:
    """The name and the alias of `NAME@alias`.

    Raises:
        InputError: it is not of that form, or MLflow keeps the alias for itself.
    """
    name, separator, alias = text.rpartition("@")
    if not separator or not name or not re.fullmatch(r"[\w-]{1,255}", alias) or set(name) & set("/:"):
        raise InputError(
            f"--register {text}: must be NAME@alias, such as chest@champion; a name without / and :, an "
            "alias of letters, digits, _ and -"
        )
    if re.fullmatch(r"v\d+|latest", alias, re.IGNORECASE):
        raise InputError(
            f"--register {text}: MLflow keeps the aliases latest and v<number> for itself; give another, "
            f"such as {name}@champion"
        )
    return name, alias


def register(bundle: Path, target: str, uri: str, run_file: Path) -> str:
    """Register a bundle as the newest version of a model, which the alias then names.

    Args:
        bundle: the folder that was exported.
        target: `NAME@alias`, see `registered_name`.
        uri: absolute tracking URI, of the model registry too.
        run_file: keeps the id of the study's run, under which the model stands.

    Returns:
        the version's number.

    Raises:
        InputError: as `registered_name`, the bundle does not load, or the store refuses.
    """
    name, alias = registered_name(target)
    read = Bundle.load(bundle, device="cpu")
    try:
        client = open_store(uri)
        run = client.get_run(run_file.read_text().strip())
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            raise ValueError(
                f"the study's run was deleted; `{shown_command('sync', run_file.parent)}` sends it anew"
            )
        model = client.create_logged_model(
            run.info.experiment_id,
            name=re.sub(r"[^\w -]", "-", name),
            source_run_id=run.info.run_id,
            params=run.data.params,
        )
        with _tracking_at(uri):
            # `mlflow.pyfunc.log_model` calls this too, but would begin the study's run again.
            Model.log(
                artifact_path=None,
                model_id=model.model_id,
                run_id=run.info.run_id,
                flavor=mlflow.pyfunc,
                python_model=str(CODE),
                artifacts={"bundle": bundle.absolute().as_uri()},
                code_paths=[str(REPOSITORY / room) for room in CODE_ROOMS],
                signature=signature(read),
                input_example=_example(),
                pip_requirements=[f"{package}=={_plain_version(package)}" for package in REQUIREMENTS],
            )
            number = _new_version(client, name, model.model_id, run.info.run_id)
        client.set_registered_model_alias(name, alias, number)
    except Exception as error:
        raise InputError(
            f"--register {target}: MLflow ({masked(uri)}) does not take it ({short(error)}); the bundle "
            f"itself is whole: {bundle}"
        ) from error
    return number


def _new_version(client: MlflowClient, name: str, model_id: str, run_id: str) -> str:
    """Make a model that is logged the newest version of a name. `Model.log` would print that it does."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    return str(client.create_model_version(name, source, run_id, model_id=model_id).version)


def signature(bundle: Bundle) -> ModelSignature:
    """One base64 text an image in; out what `radtune predict` writes of it."""
    outputs = [ColSpec(DataType.string, "label")] if bundle.predictor.rule.multiclass else []
    outputs += [ColSpec(DataType.double, f"probability.{label}") for label in bundle.labels]
    outputs += [ColSpec(DataType.long, f"decision.{label}") for label in bundle.labels]
    return ModelSignature(inputs=Schema([ColSpec(DataType.string, "image")]), outputs=Schema(outputs))


def _example() -> pd.DataFrame:
    """A gray image, as a request holds it."""
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64), 128, dtype=np.uint8)).save(file, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})


def _plain_version(package: str) -> str:
    """Without the label of a local build, such as +cpu, which no index has."""
    return version(package).partition("+")[0]


@contextmanager
def _tracking_at(uri: str) -> Iterator[None]:
    """MLflow's logging of models knows no client, only the process's own tracking URI; so does its registry,
    which looks up the model."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
