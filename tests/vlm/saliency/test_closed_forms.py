"""Maps whose values are known without a library: of a Swin, whose outputs are channels last, and of vision
transformers that pool by the mean, have registers or are read in several blocks.

Shape legend: B images, C labels, D features, E heads of attention, T tokens, h and w cells of a map.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from cohort.geometry import Geometry
from tests.vlm.encoders.small_timm import build_small_timm
from tests.vlm.saliency.test_saliency import LABELS, pictures, predictor_of
from vlm.encoders import load_encoder
from vlm.encoders.base import ImageTower
from vlm.encoders.timm import TimmEncoder
from vlm.linear_head import LinearHead
from vlm.saliency import saliency_maps
from vlm.towers import tower_of

MEAN, STD = (0.5,) * 3, (0.25,) * 3


@pytest.fixture(scope="module")
def swin(tmp_path_factory):
    return load_encoder(build_small_timm("small_swin", tmp_path_factory.mktemp("swin")), features=None)


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_the_maps_of_a_swins_last_stage_are_their_closed_form(swin, method):
    """A head on the mean over positions: each position has a sixteenth of the weights as its gradient."""
    predictor = predictor_of(swin, "deep")
    weight_DC = predictor.heads[0].weight_DC.copy()
    last = swin.blocks["deep"][-1]
    weight_DC[:-last] = 0  # the first stage is not read
    head = LinearHead.plain(weight_DC, first=swin.kinds["deep"].first)
    images_BHWC = pictures(swin)
    maps = saliency_maps(
        replace(predictor, heads=(head,)), images_BHWC, LABELS, method=method, layer="layers.1"
    )
    model = swin.model
    with torch.inference_mode():
        x_BCHW = swin.tower.normalised(torch.from_numpy(images_BHWC))
        stage_BhwD = model.layers[1](model.layers[0](model.patch_embed(x_BCHW))).numpy()
    counted_DC = weight_DC[-last:] if method == "gradcam" else np.maximum(weight_DC[-last:], 0)
    expected = np.einsum("bhwd,dc->bchw", stage_BhwD, counted_DC) / 16
    np.testing.assert_allclose(maps, np.maximum(expected, 0), rtol=1e-3, atol=1e-6)
    assert maps.shape == (3, 2, 4, 4) and maps.max() > 0


def test_a_swins_maps_are_squares_by_default_and_over_all_stages(swin):
    pooled = saliency_maps(predictor_of(swin, "pooled"), pictures(swin), LABELS)
    assert pooled.shape == (3, 2, 4, 4) and pooled.max() > 0
    deep = saliency_maps(predictor_of(swin, "deep"), pictures(swin), LABELS)
    assert deep.shape == (3, 2, 8, 8) and deep.max() > 0


def vit_encoder(kinds, **changes):
    """A vision transformer of 16 patches at 32 px, of random weights, as an encoder of some kinds."""
    parts = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "num_classes": 0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VisionTransformer(**parts | changes)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    model.eval().requires_grad_(False)
    tower = tower_of(model)
    return TimmEncoder(
        name="own",
        blocks={kind: widths for kind, widths in tower.widths(32).items() if kind in kinds},
        geometry=Geometry(32),
        mean=MEAN,
        std=STD,
        fingerprint="o" * 64,
        tower=ImageTower(model, MEAN, STD, inner=tower, kinds=kinds),
        architecture="own",
        model=model,
    )


@pytest.mark.parametrize("registers", [0, 2])
def test_relevance_of_one_block_that_is_pooled_by_its_mean_is_its_closed_form(registers):
    """Without norms behind it the score is linear in what attention gives the patches: the gradient of a
    weight from patch q to token k is that of the value at k, and the same of all q."""
    encoder = vit_encoder(("pooled",), depth=1, global_pool="avg", reg_tokens=registers)
    model, (block,) = encoder.model, encoder.model.blocks
    model.fc_norm, block.mlp = nn.Identity(), nn.Identity()
    block.norm2 = nn.Identity()  # x + x: twice the gradient
    predictor = predictor_of(encoder, "pooled")
    images_BHWC = pictures(encoder)
    maps = saliency_maps(predictor, images_BHWC, LABELS, method="relevance")

    prefix, weight_DC = 1 + registers, torch.from_numpy(predictor.heads[0].weight_DC)
    x_BCHW = encoder.tower.normalised(torch.from_numpy(images_BHWC))
    y_BTD = block.norm1(model._pos_embed(model.patch_embed(x_BCHW)))
    q, k, v = block.attn.qkv(y_BTD).unflatten(2, (3, 3, 8)).unbind(2)
    attention_BETT = (torch.einsum("bqes,bkes->beqk", q, k) / 8**0.5).softmax(-1)
    behind_ESC = (block.attn.proj.weight.T @ weight_DC).unflatten(0, (3, 8))
    gradient_BECT = 2 * torch.einsum("bkes,esc->beck", v, behind_ESC) / 16
    weighed_BCqk = torch.einsum("beqk,beck->becqk", attention_BETT, gradient_BECT).clamp(min=0).mean(1)
    expected_BCT = 1 / 16 + weighed_BCqk[:, :, prefix:].mean(2)
    np.testing.assert_allclose(maps.reshape(3, 2, 16), expected_BCT[:, :, prefix:], rtol=1e-4, atol=1e-6)


def relevance_of_deep_heads(model, weight_DC, x_BCHW, column):
    """The rule written out, R after each block kept, every attention a leaf of the graph."""
    prefix = model.num_prefix_tokens
    x = model._pos_embed(model.patch_embed(x_BCHW))
    attentions, features = [], []
    for block in model.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).unflatten(2, (3, 3, 8)).unbind(2)
        attentions.append((torch.einsum("bqes,bkes->beqk", q, k) / 8**0.5).softmax(-1))
        x = x + block.attn.proj(torch.einsum("beqk,bkes->bqes", attentions[-1], v).flatten(2))
        x = x + block.mlp(block.norm2(x))
        normed = model.norm(x)
        features += [normed[:, 0], normed[:, prefix:].mean(1)]
    score = (torch.cat(features, 1) @ weight_DC)[:, column].sum()
    relevance, read = torch.eye(x.shape[1]).repeat(len(x), 1, 1), 0
    for weights, gradient in zip(attentions, torch.autograd.grad(score, attentions), strict=True):
        relevance = relevance + (weights * gradient).clamp(min=0).mean(1) @ relevance
        read = read + relevance[:, 0] + relevance[:, prefix:].mean(1)
    return read[:, prefix:].detach()


@pytest.mark.parametrize("registers", [0, 2])
def test_relevance_of_deep_heads_reads_class_and_patches_of_each_block(registers):
    encoder = vit_encoder(("deep",), depth=2, reg_tokens=registers)
    predictor = predictor_of(encoder, "deep")
    images_BHWC = pictures(encoder)
    maps = saliency_maps(predictor, images_BHWC, LABELS, method="relevance")
    x_BCHW = encoder.tower.normalised(torch.from_numpy(images_BHWC)).requires_grad_(True)
    weight_DC = torch.from_numpy(predictor.heads[0].weight_DC)
    for column in (0, 1):
        expected = relevance_of_deep_heads(encoder.model, weight_DC, x_BCHW, column)
        np.testing.assert_allclose(maps[:, column].reshape(3, 16), expected, rtol=1e-3, atol=1e-6)


def test_a_block_of_features_without_weights_is_not_read():
    """A head on the class token of the last block alone is one on the pooled class token."""
    encoder = vit_encoder(("pooled", "deep"), depth=2)
    pooled = predictor_of(encoder, "pooled")
    own_DC = np.zeros((sum(encoder.blocks["deep"]), 2), np.float32)
    own_DC[48:72] = pooled.heads[0].weight_DC
    deep = replace(pooled, heads=(LinearHead.plain(own_DC, first=encoder.kinds["deep"].first),))
    expected, found = (
        saliency_maps(one, pictures(encoder), LABELS, method="relevance") for one in (pooled, deep)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
