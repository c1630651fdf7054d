"""Where a predictor looks: closed forms, the zero gradient behind a class token, relevance written out."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import timm
import torch
from open_clip.transformer import VisionTransformer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import save_file
from torch import nn

from cohort.errors import InputError
from cohort.geometry import Geometry
from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from tests.vlm.encoders.models import small_clip
from vlm.encoders import load_encoder
from vlm.encoders.base import Encoder, ImageTower
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor
from vlm.saliency import METHODS, saliency_maps
from vlm.saliency.cams import CAMS, cam, cam_by_layer
from vlm.saliency.layers import PUBLISHED_LAYERS, named_layers
from vlm.saliency.legrad import legrad
from vlm.saliency.relevance import attention_relevance
from vlm.saliency.target import LabelLogits, ZeroGradient
from vlm.towers import tower_of
from vlm.towers.base import CHANNELS_FIRST, Layer, Layout

LABELS = ("Edema", "Mass")


def predictor_of(encoder, kind="projected", heads=1, l2=False):
    rng = np.random.default_rng(0)
    columns = encoder.kinds[kind].columns
    made = []
    for _ in range(heads):
        weight_DC = rng.normal(size=(columns.stop - columns.start, 2)).astype(np.float32)
        made.append(LinearHead.plain(weight_DC, l2=l2, first=columns.start))
    return Predictor(
        name="head",
        labels=LABELS,
        encoder=encoder,
        heads=tuple(made),
        rule=DecisionRule.fixed(2),
        origin=Origin(note=""),
    )


@pytest.fixture(scope="module")
def phantom_clip():
    return load_encoder("phantom-clip", features=None, device="cpu")


@pytest.fixture(scope="module")
def miniature_of_all_kinds(miniature_folder):
    return load_encoder(f"local-dir:{miniature_folder}", features=None, device="cpu")


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    path = tmp_path_factory.mktemp("timm") / "net.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_efficientnet").state_dict(), path)
    return load_encoder(f"timm:test_efficientnet@{path}", features=None, device="cpu")


def pictures(encoder, count=3, seed=0):
    size = encoder.geometry.size
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 1), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["projected", "deep"])
@pytest.mark.parametrize("l2", [False, True])
def test_the_differentiable_predictor_gives_the_scores_of_the_predictor(miniature_of_all_kinds, kind, l2):
    predictor = predictor_of(miniature_of_all_kinds, kind, heads=2, l2=l2)
    images_BHWC = pictures(miniature_of_all_kinds)
    model = LabelLogits(predictor)
    expected = predictor.scores(miniature_of_all_kinds.image_features(images_BHWC).numpy())
    with torch.inference_mode():
        found = model(model.pixels(images_BHWC)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert model.reads_deep == (kind == "deep")


class LinearTower(nn.Module):
    """A patch embedding and the mean over it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, 4, 8, stride=8)

    @property
    def layer(self):
        return Layer("patches", self.patches, Layout(CHANNELS_FIRST))

    def forward(self, x_BCHW):
        return self.patches(x_BCHW).mean(dim=(2, 3))


def logits_of(tower, weight_DC):
    """Of a tower of four features a head of these weights."""
    mean, std = (0.0,) * 3, (1.0,) * 3
    encoder = Encoder(
        name="own",
        blocks={"projected": (4,)},
        geometry=Geometry(32),
        mean=mean,
        std=std,
        fingerprint="o" * 64,
        tower=ImageTower(tower.requires_grad_(False), mean, std),
    )
    return LabelLogits(replace(predictor_of(encoder), heads=(LinearHead.plain(weight_DC),)))


def test_the_maps_of_a_linear_tower_are_their_closed_form():
    tower = LinearTower()
    weight_DC = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    model = logits_of(tower, weight_DC)
    x_BCHW = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    found = cam("gradcam", model, [tower.layer], x_BCHW, [0, 1])
    activations = tower.patches(x_BCHW).numpy()
    expected = np.einsum("bdhw,dc->bchw", activations, weight_DC) / 9  # each cell has a ninth of the gradient
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-4, atol=1e-6)
    layered = cam("layercam", model, [tower.layer], x_BCHW, [0])
    positive = np.einsum("bdhw,d->bhw", activations, np.maximum(weight_DC[:, 0], 0)) / 9
    np.testing.assert_allclose(layered[:, 0], np.maximum(positive, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_each_image_and_label_has_a_map_of_its_own_unscaled(phantom_clip, method):
    predictor = predictor_of(phantom_clip)
    images_BHWC = pictures(phantom_clip)
    maps = saliency_maps(predictor, images_BHWC, LABELS, method=method)
    assert maps.shape == (3, 2, 8, 8) and maps.dtype == np.float32 and (maps >= 0).all()
    assert all(maps[b, c].max() > 0 for b in range(3) for c in range(2))
    if method == "eigencam":
        np.testing.assert_array_equal(maps[:, 0], maps[:, 1])  # it does not ask for the label
    else:
        assert np.abs(maps[:, 0] - maps[:, 1]).max() > 0
    alone = saliency_maps(predictor, images_BHWC[1:2], LABELS[1:], method=method)
    np.testing.assert_allclose(alone[0, 0], maps[1, 1], rtol=1e-3, atol=1e-6)
    twice = predictor_of(phantom_clip)
    doubled = LinearHead.plain(2 * twice.heads[0].weight_DC, first=twice.heads[0].first)
    larger = saliency_maps(replace(twice, heads=(doubled,)), images_BHWC, LABELS, method=method)
    if method in ("gradcam", "layercam"):
        np.testing.assert_allclose(larger, 2 * maps, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["phantom_clip", "miniature_of_all_kinds"])
def test_behind_the_last_attention_of_a_class_token_there_is_nothing_and_it_is_said(kind, request):
    """pytorch-grad-cam would scale the zero map to a picture (its issue 513)."""
    encoder = request.getfixturevalue(kind)
    predictor = predictor_of(encoder)
    images_BHWC = pictures(encoder, 2)
    for method in ("gradcam", "layercam"):
        with pytest.raises(
            InputError, match=r"layer blocks\.\d+\.attn: the gradient of Edema is zero throughout"
        ):
            saliency_maps(predictor, images_BHWC, ["Edema"], method=method, layer=PUBLISHED_LAYERS)
        assert saliency_maps(predictor, images_BHWC, ["Edema"], method=method).max() > 0
    earlier = next(iter(LabelLogits(predictor).tower.layers()))
    assert (saliency_maps(predictor, images_BHWC, ["Edema"], layer=earlier) >= 0).all()  # and no refusal


def test_heads_on_deep_features_are_looked_at_in_every_block_that_they_read(phantom_clip):
    model = LabelLogits(predictor_of(phantom_clip, "deep"))
    layers = named_layers(model, "")
    assert [layer.name for layer in layers] == [f"blocks.{n}.norm1" for n in range(4)]
    x_BCHW = model.pixels(pictures(phantom_clip, 2))
    each = [cam("layercam", model, [layer], x_BCHW, [0]) for layer in layers]
    np.testing.assert_allclose(cam("layercam", model, layers, x_BCHW, [0]), sum(each), rtol=1e-5)
    projected = LabelLogits(predictor_of(phantom_clip))
    assert [layer.name for layer in named_layers(projected, "")] == ["blocks.3.norm1"]


def relevance_written_out(visual, head_DC, x_BCHW, column):
    """Of open_clip's vision transformer, from its parameters alone, every attention a leaf of the graph."""
    x = visual._embeds(x_BCHW)
    attentions = []
    for block in visual.transformer.resblocks:
        attention = block.attn
        y = block.ln_1(x)
        images, tokens, width = y.shape
        heads, each = attention.num_heads, width // attention.num_heads
        q, k, v = (
            (y @ weight.T + bias).reshape(images, tokens, heads, each)
            for weight, bias in zip(
                attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True
            )
        )
        weights = torch.einsum("bqed,bked->beqk", q, k).div(each**0.5).softmax(-1)
        attentions.append(weights)
        mixed = torch.einsum("beqk,bked->bqed", weights, v).reshape(images, tokens, width)
        x = x + mixed @ attention.out_proj.weight.T + attention.out_proj.bias
        x = x + block.mlp(block.ln_2(x))
    score = (visual.ln_post(x)[:, 0] @ visual.proj @ head_DC)[:, column].sum()
    gradients = torch.autograd.grad(score, attentions)
    relevance = torch.eye(tokens).repeat(images, 1, 1)
    for weights, gradient in zip(attentions, gradients, strict=True):
        relevance = relevance + (weights * gradient).clamp(min=0).mean(1) @ relevance
    return relevance[:, 0, 1:].detach()


def two_blocks():
    """A small vision transformer with a head of two labels, two images for it, and the head's weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        visual = VisionTransformer(
            image_size=32, patch_size=8, width=24, layers=2, heads=3, mlp_ratio=2.0, output_dim=10
        ).eval()
        x_BCHW = torch.randn(2, 3, 32, 32)
        head_DC = torch.randn(10, 2)
    visual.requires_grad_(False)

    class Model(nn.Module):
        labels, reads_deep = LABELS, False

        def __init__(self) -> None:
            super().__init__()
            self.visual, self.tower = visual, tower_of(visual)

        def reads(self, column):
            return self.tower.reads("projected")

        def forward(self, x):
            return visual(x) @ head_DC

    return Model(), x_BCHW, head_DC


def test_relevance_of_a_two_block_tower_is_the_formula_written_out():
    model, x_BCHW, head_DC = two_blocks()
    found = attention_relevance(model, x_BCHW, [0, 1])
    for column in (0, 1):
        expected = relevance_written_out(model.tower.visual, head_DC, x_BCHW.requires_grad_(True), column)
        np.testing.assert_allclose(found[:, column].reshape(2, 16), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_maps_are_those_of_the_librarys_own_pass_before_it_scales_them(method):
    """pytorch-grad-cam as its users call it: one label, its own hooks, min-max of each image."""
    model, x_BCHW, _ = two_blocks()
    (layer,) = named_layers(model, "blocks.1.norm1")
    maps = cam(method, model, [layer], x_BCHW, [1])[:, 0]
    with CAMS[method](model, [layer.module], reshape_transform=layer.spatial) as library:
        expected = library(x_BCHW.requires_grad_(True), [ClassifierOutputTarget(1)] * 2)
    assert expected.shape == (2, 32, 32)
    for own_hw, their_HW in zip(maps, expected, strict=True):
        scaled = (own_hw - own_hw.min()) / (own_hw.max() - own_hw.min() + 1e-7)
        resized = np.clip(cv2.resize(scaled, (32, 32)), 0, 1)
        again = (resized - resized.min()) / (resized.max() - resized.min() + 1e-7)
        np.testing.assert_allclose(their_HW, again, atol=1e-4)


def legrad_written_out(visual, head_DC, x_BCHW, column):
    """Of open_clip's vision transformer: the score of each block's mean token, by that block's attention."""
    x = visual._embeds(x_BCHW)
    total = 0
    for block in visual.transformer.resblocks:
        attention, y = block.attn, block.ln_1(x)
        images, tokens, width = y.shape
        heads = attention.num_heads
        qkv = y @ attention.in_proj_weight.T + attention.in_proj_bias
        q, k, v = (one.reshape(images, tokens, heads, -1).transpose(1, 2) for one in qkv.chunk(3, dim=-1))
        weights = (q @ k.transpose(2, 3) / (width // heads) ** 0.5).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(images, tokens, width)
        x = x + mixed @ attention.out_proj.weight.T + attention.out_proj.bias
        x = x + block.mlp(block.ln_2(x))
        score = (visual.ln_post(x.mean(1)) @ visual.proj @ head_DC)[:, column].sum()
        (gradient,) = torch.autograd.grad(score, weights, retain_graph=True)
        total = total + gradient.clamp(min=0).mean((1, 2))
    return total[:, 1:].detach()


def test_legrad_of_a_two_block_tower_is_the_formula_written_out():
    model, x_BCHW, head_DC = two_blocks()
    found = legrad(model, x_BCHW, [0, 1])
    for column in (0, 1):
        expected = legrad_written_out(model.tower.visual, head_DC, x_BCHW.requires_grad_(True), column)
        np.testing.assert_allclose(found[:, column].reshape(2, 16), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("method", ["layercam", "relevance", "legrad"])
def test_a_head_that_asks_for_nothing_has_no_map(phantom_clip, method):
    predictor = predictor_of(phantom_clip)
    weight_DC = predictor.heads[0].weight_DC * np.array([1, 0], np.float32)
    predictor = replace(predictor, heads=(LinearHead.plain(weight_DC, first=predictor.heads[0].first),))
    with pytest.raises(ZeroGradient, match="the gradient of Mass is zero throughout"):
        saliency_maps(predictor, pictures(phantom_clip, 1), LABELS, method=method)
    assert saliency_maps(predictor, pictures(phantom_clip, 1), LABELS[:1], method=method).max() > 0


def test_looking_leaves_the_tower_as_it_was(miniature_of_all_kinds, phantom_clip):
    for encoder in (miniature_of_all_kinds, phantom_clip):
        images_BHWC = pictures(encoder)
        before = encoder.image_features(images_BHWC)
        blocks_before = [dict(module.__dict__) for module in encoder.tower.modules()]
        for method in METHODS:
            saliency_maps(predictor_of(encoder), images_BHWC, LABELS, method=method)
        torch.testing.assert_close(encoder.image_features(images_BHWC), before, rtol=0, atol=0)
        for module, state in zip(encoder.tower.modules(), blocks_before, strict=True):
            assert module.__dict__.keys() == state.keys() and not module._forward_hooks
            assert getattr(module, "fused_attn", None) == state.get("fused_attn")
        assert not any(parameter.requires_grad for parameter in encoder.backbone.parameters())


def test_a_convolutional_network_is_looked_at_in_its_stages(convolutional):
    predictor = predictor_of(convolutional, "pooled")
    maps = saliency_maps(predictor, pictures(convolutional), LABELS, method="gradcam")
    assert maps.shape[:2] == (3, 2) and maps.max() > 0
    deep = saliency_maps(predictor_of(convolutional, "deep"), pictures(convolutional), LABELS)
    assert deep.shape[2] > maps.shape[2]  # on the finest of the stages' grids
    for method in ("relevance", "legrad"):
        with pytest.raises(InputError, match="attention of transformers, and this tower has none"):
            saliency_maps(predictor, pictures(convolutional), LABELS, method=method)


def test_open_clips_resnet_is_looked_at_in_its_stages(tmp_path):
    folder = small_clip(
        tmp_path / "resnet", image_size=64, vision={"layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    )
    encoder = load_encoder(f"local-dir:{folder}", features=None, device="cpu")
    predictor = predictor_of(encoder)
    model = LabelLogits(predictor)
    assert [layer.name for layer in named_layers(model, "")] == ["layer4"]
    maps = saliency_maps(predictor, pictures(encoder), LABELS, method="gradcam", layer="layer2")
    assert maps.shape[:2] == (3, 2) and maps.max() > 0
    assert saliency_maps(predictor, pictures(encoder), LABELS).shape[2] < maps.shape[2]


def test_what_cannot_be_looked_into_is_said_in_one_line(phantom_clip):
    predictor, images_BHWC = predictor_of(phantom_clip), pictures(phantom_clip, 1)
    with pytest.raises(
        InputError, match=r"no layer 'blocks\.9'; the tower has blocks\.0\.attn, blocks\.0\.norm1"
    ):
        saliency_maps(predictor, images_BHWC, LABELS, layer="blocks.9")
    with pytest.raises(InputError, match="--method must be one of gradcam"):
        saliency_maps(predictor, images_BHWC, LABELS, method="guess")
    with pytest.raises(InputError, match="relevance is of several blocks together"):
        saliency_maps(predictor, images_BHWC, LABELS, method="relevance", layer="blocks.0.norm1")
    with pytest.raises(InputError, match=r"--shifts must lie in 1\.\.16, got 0"):
        saliency_maps(predictor, images_BHWC, LABELS, shifts=0)
    with pytest.raises(InputError, match="no label 'Hernia'; the predictor has Edema, Mass"):
        saliency_maps(predictor, images_BHWC, ["Hernia"])
    pixels = load_encoder("pixels")
    with pytest.raises(InputError, match="encoder pixels has no layers to look into"):
        saliency_maps(predictor_of(pixels), pictures(pixels, 1), LABELS)


def test_a_bright_spot_that_decides_is_where_the_map_is_largest():
    """A tower that sums squares of what is bright, patch by patch: the spot's patch has most of the score."""

    class Spots(LinearTower):
        def forward(self, x_BCHW):
            return self.patches(x_BCHW).square().mean(dim=(2, 3))

    tower = Spots()
    model = logits_of(tower, np.ones((4, 2), np.float32))
    x_BCHW = torch.zeros(1, 3, 32, 32)
    x_BCHW[:, :, 16:24, 8:16] = 1.0
    (map_hw,) = cam("layercam", model, [tower.layer], x_BCHW, [0])[0]
    assert np.unravel_index(map_hw.argmax(), map_hw.shape) == (2, 1)


def test_layers_of_one_pass_are_those_of_a_pass_each(phantom_clip):
    model = LabelLogits(predictor_of(phantom_clip))
    layers = list(model.tower.layers().values())
    x_BCHW = model.pixels(pictures(phantom_clip, 2))
    each = cam_by_layer("layercam", model, layers, x_BCHW, [0, 1])
    for layer, maps in zip(layers, each, strict=True):
        if layer.name == "blocks.3.attn":  # behind it only the class token counts
            assert maps.shape == (2, 2, 8, 8) and not maps.any()
        else:
            np.testing.assert_allclose(
                maps, cam("layercam", model, [layer], x_BCHW, [0, 1]), rtol=1e-4, atol=1e-7
            )


def test_no_label_costs_another_forward_pass(phantom_clip, monkeypatch):
    passes = []
    forward = LabelLogits.forward
    monkeypatch.setattr(LabelLogits, "forward", lambda self, x: passes.append(len(x)) or forward(self, x))
    for method in ("gradcam", "layercam", "eigencam", "relevance"):
        passes.clear()
        saliency_maps(predictor_of(phantom_clip), pictures(phantom_clip, 5), LABELS, method=method)
        assert passes == [5]


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_maps_on_a_gpu_are_those_of_the_cpu(method):
    images_BHWC = pictures(load_encoder("phantom-clip", features=None, device="cpu"))
    on_cpu, on_gpu = (
        saliency_maps(
            predictor_of(load_encoder("phantom-clip", features=None, device=device)),
            images_BHWC,
            LABELS,
            method=method,
            shifts=2,
        )
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-2, atol=1e-3 * on_cpu.max())
