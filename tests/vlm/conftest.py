import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cohort.labels import LabelPolicy
from cohort.manifest import Cohort
from cohort.writing import write_cohort
from tests.vlm.miniature_biomedclip import build_miniature_biomedclip
from vlm.encoders import Encoder, load_encoder


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory) -> Path:
    return build_miniature_biomedclip(tmp_path_factory.mktemp("miniature") / "biomedclip")


@pytest.fixture(scope="session")
def miniature(miniature_folder) -> Encoder:
    return load_encoder(f"local-dir:{miniature_folder}", device="cpu")


@pytest.fixture(scope="session")
def drawn_cohort(tmp_path_factory) -> Cohort:
    """Ten gray images of different shapes, six patients, two labels."""
    root = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(10)]
    (root / "images").mkdir()
    for i, name in enumerate(names):
        pixels_HW = rng.integers(0, 256, (40 + i, 50 - i), dtype=np.uint8)
        Image.fromarray(pixels_HW).save(root / "images" / name)
    columns = {
        "image": [name.removesuffix(".png") for name in names],
        "file": names,
        "digest": [hashlib.sha256((root / "images" / name).read_bytes()).hexdigest() for name in names],
        "present": [True] * 10,
        "patient": list("aabbccddef"),
        "study": names,
        "view": ["PA"] * 10,
        "split": ["train"] * 6 + ["val"] * 2 + ["test"] * 2,
    }
    return write_cohort(
        root / "cohort",
        columns,
        rng.integers(0, 2, (10, 2)).astype(np.float32),
        labels=("Edema", "Cardiomegaly"),
        source="drawn by a test",
        policy=LabelPolicy(),
        images_root=root / "images",
    )
