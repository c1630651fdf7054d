"""Models and images in miniature for the tests of encoders."""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file


def small_clip(folder: Path, image_size=32, vision=None, preprocess=None) -> Path:
    """A CLIP of open_clip's own parts as a local-dir."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": image_size,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    config["vision_cfg"] |= vision or {}
    folder.mkdir()
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess or {}})
    (folder / "open_clip_config.json").write_text(text)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def add_code(folder: Path, marker: Path) -> None:
    """A tokenizer and a text model of one's own, each with a line that runs as its module is imported."""
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    code += "from transformers import BertTokenizer, BertConfig, BertModel\n"
    code += "class Own(BertTokenizer): pass\nclass OwnConfig(BertConfig): model_type = 'own'\n"
    (folder / "own.py").write_text(code)
    for file, auto_map in (
        ("tokenizer_config.json", {"AutoTokenizer": ["own.Own", "own.Own"]}),
        ("config.json", {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}),
    ):
        settings = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        (folder / file).write_text(json.dumps(settings | {"auto_map": auto_map}))


def change_text(folder: Path, **changes) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"] |= changes
    path.write_text(json.dumps(config))


def snapshot(cache: Path, repository: str) -> Path:
    """Where the hub's client keeps the files of a repository."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    files = folder / "snapshots" / ("0" * 40)
    files.mkdir(parents=True)
    return files


def random_images(encoder, channels=1, count=3) -> np.ndarray:
    size = encoder.geometry.size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)
