"""A small real study: drawn images, raw pixels, Ray, MLflow."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from cohort.labels import LabelPolicy
from cohort.manifest import Cohort
from cohort.writing import write_cohort
from study import Study
from study.study_file import load_config, stored_file

LABELS = ("Bright", "Left", "Rare")


def square_cohort(
    folder: Path,
    images: int = 160,
    seed: int = 0,
    images_a_patient: int = 2,
    splits: tuple[str, ...] = ("train", "train", "val", "test"),
) -> Cohort:
    """Noisy 32 x 32 squares, a few a patient: bright ones, ones brighter on the left, a rare spot."""
    rng = np.random.default_rng(seed)
    pictures = folder.parent / f"{folder.name}-images"
    pictures.mkdir(parents=True)
    targets_NC = (rng.random((images, 3)) < [0.5, 0.3, 0.15]).astype(np.float32)
    for i, (bright, left, rare) in enumerate(targets_NC):
        # Each sign lies in noise of its own size, so that no model is perfect.
        whole, half, spot = rng.normal(12 * np.array([bright, left, rare]), 12)
        pixels = rng.normal(90 + whole, 40, (32, 32))
        pixels[:, :16] += half
        pixels[20:28, 20:28] += spot
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(pictures / f"{i:03d}.png")
    patients = [f"p{i // images_a_patient}" for i in range(images)]
    columns = {
        "image": [f"{i:03d}" for i in range(images)],
        "file": [f"{i:03d}.png" for i in range(images)],
        "digest": [
            hashlib.sha256((pictures / f"{i:03d}.png").read_bytes()).hexdigest() for i in range(images)
        ],
        "present": [True] * images,
        "patient": patients,
        "study": patients,
        "view": ["PA"] * images,
        "split": [splits[i // images_a_patient % len(splits)] for i in range(images)],
    }
    return write_cohort(
        folder,
        columns,
        targets_NC,
        labels=LABELS,
        source="squares",
        policy=LabelPolicy(),
        images_root=pictures,
    )


def settings(folder: Path, name: str = "squares", **search: object) -> dict:
    return {
        "name": name,
        "cohort": str(folder / "cohort"),
        "encoder": "pixels",
        "search": {"configurations": 24, **search},
        "resources": {"cpus": 2, "gpus": 0},
        "storage": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
        "analysis": {"top": 2, "bootstrap": 200, "permutations": 200},
    }


def copy_of(study: Study, project: Path) -> Study:
    """A study's whole project in a new folder, with a study file beside it."""
    original = Path(study.config.storage).parent
    shutil.copytree(original, project, symlinks=True)
    stored = project / "runs" / study.config.name / "study.yaml"
    (project / stored.name).write_text(stored.read_text().replace(str(original), str(project)))
    stored.write_bytes(stored_file(load_config(project / stored.name)))
    shutil.copy(stored, study_file(Study.open(stored.parent)))
    return Study.open(stored.parent)


def study_file(study: Study) -> Path:
    """The file with which a study of `copy_of`, or `to_run` of the tests of faults, is run."""
    return Path(study.config.storage).parent / f"{study.config.name}.yaml"
