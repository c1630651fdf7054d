"""Image towers of every construction that is fine-tuned, in miniature and with random weights."""

import json
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from tests.vlm.miniature_biomedclip import build_miniature_biomedclip

_TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
_VISION = {
    "vit": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32},
    "resnet": {"layers": [1, 2, 1, 1], "width": 8, "head_width": 16, "image_size": 32},
}
KINDS = ("timm", "vit", "resnet")


def build_tower(kind: str, folder: Path) -> str:
    """Write a CLIP model and return its encoder name: `timm` is BiomedCLIP's construction at 160 px, `vit`
    and `resnet` are open_clip's own at 32 px."""
    if kind == "timm":
        return f"local-dir:{build_miniature_biomedclip(folder)}"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": 16, "vision_cfg": _VISION[kind], "text_cfg": _TEXT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(**config)
        for name, parameter in model.visual.named_parameters():
            # open_clip starts a residual branch of its ResNet at zero, which would hide it from every test.
            if name.endswith("bn3.weight"):
                torch.nn.init.ones_(parameter)
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"
