import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from cohort.labels import LabelPolicy
from cohort.manifest import Cohort
from cohort.writing import write_cohort
from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from tests.hostile.models.guarded_process import GuardedProcess
from tests.vlm.encoders.models import small_clip
from tests.vlm.miniature_biomedclip import build_miniature_biomedclip
from vlm.bundle_writing import save_bundle
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor

LABELS = ("Edema", "Cardiomegaly")


@pytest.fixture(scope="session")
def guarded(tmp_path_factory) -> Iterator[GuardedProcess]:
    process = GuardedProcess(tmp_path_factory.mktemp("guarded"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def honest(tmp_path_factory) -> Path:
    """`clip`, open_clip's own parts; `biomedclip`, with a text tower of Hugging Face; `tokenizer`, the same
    with a tokenizer.json that says all; `bundle`, of `biomedclip` and with it; `image.png`."""
    root = tmp_path_factory.mktemp("honest")
    small_clip(root / "clip")
    build_miniature_biomedclip(root / "biomedclip")
    build_miniature_biomedclip(root / "tokenizer")
    AutoTokenizer.from_pretrained(str(root / "biomedclip")).save_pretrained(root / "tokenizer")
    (root / "tokenizer" / "vocab.txt").unlink()
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (root / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))

    encoder = load_encoder(f"local-dir:{root / 'biomedclip'}", device="cpu")
    rng = np.random.default_rng(0)
    predictor = Predictor(
        name="best-1",
        labels=LABELS,
        encoder=encoder,
        heads=(LinearHead.plain(rng.normal(size=(encoder.width, 2)), l2=True),),
        rule=DecisionRule.fitted("shrunk", [0.5, 0.4], np.array([False, True])),
        origin=Origin(note="trial 7", study="a study", trial=7, params={"loss": "bce"}, objective=0.25),
    )
    save_bundle(root / "bundle", predictor, _cohort(root), card="# A card\n", with_encoder=True)
    Image.fromarray(rng.integers(0, 256, (50, 40), dtype=np.uint8)).save(root / "image.png")
    return root


@pytest.fixture
def copy(honest, tmp_path) -> Callable[[str], Path]:
    """Copies one of the honest folders, anew each time."""
    count = iter(range(10**6))

    def one(kind: str) -> Path:
        return Path(shutil.copytree(honest / kind, tmp_path / f"{kind}-{next(count)}"))

    return one


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """`change` is applied to the object in the file, in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _cohort(root: Path) -> Cohort:
    names = [f"{i}.png" for i in range(4)]
    columns = {
        "image": names,
        "file": names,
        "digest": [f"{i:064x}" for i in range(4)],
        "present": [True] * 4,
        "patient": names,
        "study": names,
        "view": ["PA"] * 4,
        "split": ["train", "train", "val", "test"],
    }
    return write_cohort(
        root / "cohort",
        columns,
        np.array([[0, 1], [1, 0], [0, 1], [1, 0]], np.float32),
        labels=LABELS,
        source="made up",
        policy=LabelPolicy(),
        images_root=root,
    )
