"""What a study stands on."""

import hashlib

import numpy as np
from PIL import Image

from cohort.labels import LabelPolicy
from cohort.manifest import write_cohort
from study.cli import main
from study.config import validated
from study.inputs import open_inputs
from study.run_folder import RunFolder
from tests.study.conftest import settings


def test_raw_pixels_are_in_colour_where_the_cohort_is(tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    images = [f"{i}.png" for i in range(12)]
    for i, name in enumerate(images):
        colour = (200, 10, 10) if i % 2 else (10, 10, 200)
        Image.new("RGB", (40, 40), tuple(value + i for value in colour)).save(pictures / name)
    columns = {
        "image": images,
        "file": images,
        "digest": [hashlib.sha256((pictures / name).read_bytes()).hexdigest() for name in images],
        "present": [True] * 12,
        "patient": images,
        "study": images,
        "view": [""] * 12,
        "split": ["train"] * 12,
    }
    write_cohort(
        tmp_path / "cohort",
        columns,
        np.arange(12)[:, None] % 2,
        labels=("Red",),
        source="squares",
        policy=LabelPolicy(),
        images_root=pictures,
        channels=3,
    )
    inputs = open_inputs(validated(settings(tmp_path)), RunFolder(tmp_path / "run"))
    assert inputs.encoder.name == "pixels:32x32x3"
    np.testing.assert_allclose(inputs.embeddings.features_ND[1, [0, 1024, 2048]] * 255, [201, 11, 11])
    cohort, cache = str(tmp_path / "cohort"), str(tmp_path / "cache")
    assert main(["embed", cohort, "--encoder", "pixels", "--cache", cache]) == 0
    assert "12 x 3072 features of pixels:32x32x3, fp32, from the cache" in capsys.readouterr().out
