"""What a study stands on."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from cohort.errors import InputError
from cohort.labels import LabelPolicy
from cohort.manifest import Cohort, write_cohort
from study.cli import main
from study.config import validated
from study.inputs import open_inputs, study_space
from study.run_folder import RunFolder
from tests.study.conftest import settings


def test_a_loss_of_exclusive_labels_is_refused_for_others_before_anything_is_computed(tmp_path):
    """For linear probes and fine-tuning, fixed and as a choice."""
    images = [f"{i}.png" for i in range(6)]
    columns = {name: images for name in ("image", "file", "patient", "study")}
    columns |= {"digest": [""] * 6, "present": [True] * 6, "view": [""] * 6, "split": ["train"] * 6}
    facts = {"source": "nothing", "policy": LabelPolicy(), "images_root": tmp_path}  # and no image is there
    targets_NC = np.eye(2)[np.arange(6) % 2]
    for exclusive in (False, True):
        write_cohort(
            tmp_path / "cohort", columns, targets_NC, labels=("A", "B"), exclusive=exclusive, **facts
        )
        for trainable in ("linear_probe", "fine_tune"):
            for search in ({"fixed": {"loss": "softmax"}}, {"ranges": {"loss": ["bce", "softmax"]}}):
                config = validated(settings(tmp_path, **search) | {"trainable": trainable})
                if exclusive:
                    assert study_space(config, Cohort.open(tmp_path / "cohort")).exclusive
                    continue
                with pytest.raises(InputError, match=r"^search\.\w+\.loss: softmax is for exclusive labels"):
                    open_inputs(config, RunFolder(tmp_path / "run"))
                assert not (tmp_path / "cache").exists()


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
