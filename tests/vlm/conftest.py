from pathlib import Path

import pytest

from tests.vlm.miniature_biomedclip import build_miniature_biomedclip
from vlm.encoders import Encoder, load_encoder


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory) -> Path:
    return build_miniature_biomedclip(tmp_path_factory.mktemp("miniature") / "biomedclip")


@pytest.fixture(scope="session")
def miniature(miniature_folder) -> Encoder:
    return load_encoder(f"local-dir:{miniature_folder}", device="cpu")
