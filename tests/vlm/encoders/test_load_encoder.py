"""Names of encoders, and the file that loads each."""

import importlib
import inspect
import subprocess
import sys

import pytest

from cohort.errors import InputError
from tests.conftest import REPOSITORY
from vlm.encoders import KINDS, load_encoder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("phantom_clip", "unknown encoder 'phantom_clip'; did you mean 'phantom-clip'?"),
        ("ViT-B32/openai", "unknown encoder 'ViT-B32/openai'; did you mean 'ViT-B-32'?"),
        ("microsoft/BiomedCLIP", "a model on the hub is written hf-hub:microsoft/BiomedCLIP"),
        ("ViT-B-32", "must be MODEL/TAG with a pretrained tag of ViT-B-32; there are: openai"),
        ("local-dir:/nowhere", "no open_clip_config.json in /nowhere"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, message):
    with pytest.raises(InputError) as caught:
        load_encoder(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_features_of_no_kind_are_refused():
    with pytest.raises(InputError, match="features must be of projected, pooled, deep, got 'tokens'"):
        load_encoder("pixels", features=("tokens",))


def test_a_kind_imports_its_own_file_only():
    loaded = "import sys; from vlm.encoders import load_encoder; load_encoder('pixels'); print(*sys.modules)"
    command = [sys.executable, "-c", loaded]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "vlm.encoders.pixels" in modules and "open_clip" not in modules


@pytest.mark.parametrize("kind", [*KINDS, "open_clip"])
def test_every_kind_is_a_file_that_loads_in_the_same_way(kind):
    load = importlib.import_module(f"vlm.encoders.{kind}").load
    assert list(inspect.signature(load).parameters) == ["name", "features", "hub"]
