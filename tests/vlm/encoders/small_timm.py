"""Image models of timm's own classes at their smallest, by names that timm then knows: a vision transformer,
a convolutional network, and a Swin, whose maps are channels last. 32 pixels a side."""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

_SETTINGS = {
    "input_size": (3, 32, 32),
    "pool_size": (1, 1),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "num_classes": 4,
}
default_cfgs = generate_default_cfgs(
    {
        "small_vit": _SETTINGS | {"classifier": "head", "first_conv": "patch_embed.proj"},
        "small_cnn": _SETTINGS | {"classifier": "fc", "first_conv": "conv1"},
        "small_swin": _SETTINGS | {"classifier": "head.fc", "first_conv": "patch_embed.proj"},
    }
)
NAMES = ("small_vit", "small_cnn", "small_swin")


@register_model
def small_vit(pretrained=False, **changes):
    parts = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return build_model_with_cfg(VisionTransformer, "small_vit", pretrained, **parts | changes)


@register_model
def small_cnn(pretrained=False, **changes):
    parts = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16)}
    return build_model_with_cfg(ResNet, "small_cnn", pretrained, **parts | changes)


@register_model
def small_swin(pretrained=False, **changes):
    parts = {
        "img_size": 32,
        "patch_size": 4,
        "window_size": 4,
        "embed_dim": 16,
        "depths": (1, 1),
        "num_heads": (2, 2),
    }
    return build_model_with_cfg(SwinTransformer, "small_swin", pretrained, **parts | changes)


def build_small_timm(model: str, folder: Path) -> str:
    """Write random weights of one of `NAMES`; returns its encoder name."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = timm.create_model(model, pretrained=False).state_dict()
    save_file(weights, folder / "model.safetensors")
    return f"timm:{model}@{folder}/model.safetensors"
