"""docs/bundle.md is enough: a bundle's predictions, computed from its files with numpy and Pillow alone."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from vlm.bundle import Bundle
from vlm.bundle_writing import save_bundle
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor

LABELS = ("Edema", "Cardiomegaly")


def tensors(path: Path) -> dict[str, np.ndarray]:
    """safetensors: the length of a JSON header, the header, the arrays."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    kinds = {"F32": np.float32, "F64": np.float64, "U8": np.uint8, "I64": np.int64}
    return {
        name: np.frombuffer(data[end:][slice(*one["data_offsets"])], kinds[one["dtype"]]).reshape(
            one["shape"]
        )
        for name, one in json.loads(data[8:end]).items()
        if name != "__metadata__"
    }


def square(path: Path, transform: dict) -> np.ndarray:
    """Section 1, of resize_mode shortest."""
    image = Image.open(path)
    size, (width, height) = transform["geometry"]["size"], image.size
    longer = math.floor(size * max(width, height) / min(width, height))
    width, height = (longer, size) if width > height else (size, longer)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    top, left = round((height - size) / 2), round((width - size) / 2)
    cut = resized[top : top + size, left : left + size]
    return np.repeat(cut[:, :, None], 3, axis=2) if cut.ndim == 2 else cut


def norm(x, weights, name):
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def features(square_HWC: np.ndarray, described: dict, weights: dict, heads: int) -> np.ndarray:
    """Section 2: projected and deep features of open_clip's vision transformer."""
    transform = described["transform"]
    x_HWC = (square_HWC / 255 - transform["mean"]) / transform["std"]
    kernel = weights["conv1.weight"]
    side = kernel.shape[-1]
    patches = x_HWC.reshape(len(x_HWC) // side, side, -1, side, 3).transpose(0, 2, 4, 1, 3)
    tokens = patches.reshape(-1, 3 * side**2) @ kernel.reshape(len(kernel), -1).T
    x_TD = np.concatenate([weights["class_embedding"][None], tokens]) + weights["positional_embedding"]
    x_TD = norm(x_TD, weights, "ln_pre")
    gelu = np.vectorize(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))
    deep = []
    for block in (f"transformer.resblocks.{n}" for n in range(4)):
        y_TD = norm(x_TD, weights, f"{block}.ln_1")
        y_TD = y_TD @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]
        q_HTS, k_HTS, v_HTS = y_TD.reshape(len(y_TD), 3, heads, -1).transpose(1, 2, 0, 3)
        products = np.exp(q_HTS @ k_HTS.transpose(0, 2, 1) / math.sqrt(q_HTS.shape[2]))
        seen = products / products.sum(-1, keepdims=True) @ v_HTS
        seen = seen.transpose(1, 0, 2).reshape(len(y_TD), -1)
        x_TD = x_TD + seen @ weights[f"{block}.attn.out_proj.weight"].T
        x_TD = x_TD + weights[f"{block}.attn.out_proj.bias"]
        y_TD = norm(x_TD, weights, f"{block}.ln_2") @ weights[f"{block}.mlp.c_fc.weight"].T
        y_TD = gelu(y_TD + weights[f"{block}.mlp.c_fc.bias"])
        x_TD = x_TD + y_TD @ weights[f"{block}.mlp.c_proj.weight"].T + weights[f"{block}.mlp.c_proj.bias"]
        after_TD = norm(x_TD, weights, "ln_post")
        deep += [after_TD[0], after_TD[1:].mean(axis=0)]
    return np.concatenate([deep[-2] @ weights["proj"], *deep])


def probabilities(row: np.ndarray, arrays: dict, decisions: dict) -> np.ndarray:
    """Section 3."""
    logits = []
    for k in range(sum(name.endswith("/first") for name in arrays)):
        part = {name.partition("/")[2]: one for name, one in arrays.items() if name.startswith(f"{k}/")}
        x_D = row[part["first"][0] :][: len(part["mean_D"])]
        if part["l2"][0]:
            x_D = x_D / np.linalg.norm(x_D)
        logits.append((x_D - part["mean_D"]) / part["scale_D"] @ part["weight_DC"] + part["bias_C"])
    z_C = (np.mean(logits, axis=0) - decisions["scale"]["centre"]) / decisions["scale"]["width"]
    if decisions["multiclass"]:
        return np.exp(z_C) / np.exp(z_C).sum()
    return 1 / (1 + np.exp(-z_C))


def heads_on(encoder, reference_ND: np.ndarray) -> tuple[LinearHead, ...]:
    """One on the directions of projected features, and one on standardised projected and deep ones."""
    rng = np.random.default_rng(0)
    both = encoder.kinds["projected+deep"]
    of_directions = LinearHead.plain(rng.normal(0, 2, (encoder.kinds["projected"].width, 2)), l2=True)
    standardised = LinearHead(
        weight_DC=rng.normal(0, both.width**-0.5, (both.width, 2)).astype(np.float32),
        bias_C=rng.normal(0, 1, 2).astype(np.float32),
        mean_D=reference_ND.mean(axis=0),
        scale_D=reference_ND.std(axis=0) + np.float32(0.1),
    )
    return of_directions, standardised


@pytest.mark.parametrize("multiclass", [False, True])
def test_numpy_and_pillow_reproduce_a_bundle_from_what_its_page_says(drawn_cohort, tmp_path, multiclass):
    encoder = load_encoder("phantom-clip", features=("projected", "deep"), device="cpu")
    rng = np.random.default_rng(1)
    reference_ND = encoder.image_features(rng.integers(0, 256, (8, 128, 128, 1), np.uint8)).numpy()
    predictor = Predictor(
        name="best-1",
        labels=LABELS,
        encoder=encoder,
        heads=heads_on(encoder, reference_ND),
        rule=DecisionRule.fitted("shrunk", [0.5, 0.4], np.array([False, False]), multiclass=multiclass),
        origin=Origin(note="", study="by hand"),
    )
    cohort = replace(drawn_cohort, content_hash="c0ffee")
    folder = save_bundle(tmp_path / "bundle", predictor, cohort, card="# A card\n", with_encoder=True)
    Image.fromarray(rng.integers(0, 256, (301, 417, 3), np.uint8)).save(tmp_path / "colour.png")
    files = [tmp_path / "colour.png"]
    files += [drawn_cohort.images_root / file for file in drawn_cohort.column("file")[:3]]

    described = json.loads((folder / "bundle.json").read_text())
    assert described["encoder"]["features"] == ["projected", "deep"]
    every = tensors(folder / "encoder" / "open_clip_model.safetensors")
    weights = {name.removeprefix("visual."): one.astype(np.float64) for name, one in every.items()}
    vision = json.loads((folder / "encoder" / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]
    heads, arrays = vision["width"] // vision["head_width"], tensors(folder / "head.safetensors")
    by_hand_NC = np.stack(
        [
            probabilities(
                features(square(file, described["transform"]), described, weights, heads),
                arrays,
                described["decisions"],
            )
            for file in files
        ]
    )
    table = Bundle.load(folder, "cpu").predict(files).to_pandas()
    found_NC = table[[f"probability.{label}" for label in LABELS]].to_numpy()
    np.testing.assert_allclose(by_hand_NC, found_NC, rtol=0, atol=5e-7)
    assert np.ptp(found_NC, axis=0).min() > 0.01
    decided_NC = table[[f"decision.{label}" for label in LABELS]].to_numpy()
    if multiclass:
        odds = arrays["thresholds_C"] / (1 - arrays["thresholds_C"])
        np.testing.assert_array_equal(
            decided_NC.argmax(axis=1), (np.log(by_hand_NC) - np.log(odds)).argmax(axis=1)
        )
    else:
        np.testing.assert_array_equal(decided_NC, by_hand_NC >= arrays["thresholds_C"])
