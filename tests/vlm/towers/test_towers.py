"""What every tower says of itself: numbers of blocks, tokens that features are made of, how outputs lie."""

import pytest
import torch
from open_clip.transformer import VisionTransformer as OpenClipTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from cohort.errors import InputError
from tests.trainables.towers import KINDS, build_tower
from tests.vlm.encoders import small_timm
from vlm.encoders import load_encoder
from vlm.towers import tower_of
from vlm.towers.base import CHANNELS_FIRST, CHANNELS_LAST, TOKENS, Layout
from vlm.towers.tokens import Read


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    return {kind: load_encoder(build_tower(kind, root / kind), device="cpu").tower.inner for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "expected", "top"),
    [
        (
            "timm",
            {
                "trunk.patch_embed.proj.weight": 0,
                "trunk.pos_embed": 0,
                "trunk.blocks.0.norm1.weight": 1,
                "trunk.blocks.5.mlp.fc2.bias": 6,
                "trunk.norm.weight": 6,
                "head.proj.weight": 7,
            },
            7,
        ),
        (
            "vit",
            {
                "class_embedding": 0,
                "conv1.weight": 0,
                "ln_pre.bias": 0,
                "transformer.resblocks.0.attn.in_proj_weight": 1,
                "transformer.resblocks.2.ln_2.weight": 3,
                "ln_post.weight": 3,
                "proj": 4,
            },
            4,
        ),
        (
            "resnet",
            {
                "conv3.weight": 0,
                "bn1.weight": 0,
                "layer1.0.conv1.weight": 1,
                "layer2.0.bn2.bias": 2,
                "layer2.1.conv3.weight": 3,
                "layer4.0.downsample.0.weight": 5,
                "attnpool.positional_embedding": 6,
            },
            6,
        ),
    ],
)
def test_blocks_are_numbered_from_the_stem_to_the_projection(towers, kind, expected, top):
    numbers, top_number = towers[kind].blocks()
    assert top_number == top
    assert expected.items() <= numbers.items()
    assert set(numbers) == {name for name, _ in towers[kind].visual.named_parameters()}
    assert set(numbers.values()) == set(range(top + 1))


def test_only_layers_within_the_blocks_take_low_rank_additions():
    targets = tower_of(small_timm.small_swin(num_classes=0)).lora_targets()
    assert targets["layers.0.blocks.0.attn.qkv"] == {"attention"}
    assert targets["layers.0.blocks.0.mlp.fc1"] == {"mlp"}
    assert not any(name.startswith("patch_embed") for name in targets)


def small_vit(**changes):
    parts = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 5, "num_heads": 2, "num_classes": 0}
    return VisionTransformer(**parts | changes)


@pytest.mark.parametrize(
    ("visual", "pool", "read"),
    [
        (small_vit(reg_tokens=2), "class", Read(4, 0, 1)),
        (small_vit(reg_tokens=2, global_pool="avg"), "mean", Read(4, 3)),
        (small_vit(global_pool="avg", pool_include_prefix=True), "mean", Read(4, 0)),
        (small_vit(class_token=False, global_pool="avg"), "mean", Read(4, 0)),
        (small_vit(class_token=False, global_pool="map"), "map", Read(4, 0)),
        (OpenClipTransformer(32, 8, 24, 2, 3, 2.0, pool_type="avg"), "mean", Read(1, 1)),
        (OpenClipTransformer(32, 8, 24, 2, 3, 2.0, attentional_pool=True), "attention", Read(1, 0)),
    ],
)
def test_the_tokens_read_follow_from_the_pooling(visual, pool, read):
    tower = tower_of(visual)
    assert tower.pool == pool
    assert tower.reads("pooled") == tower.reads("projected") == [read]


def test_deep_features_read_class_and_patches_of_each_block():
    tower = tower_of(small_vit(reg_tokens=2))
    reads = tower.reads("deep")
    assert reads == [read for number in (1, 2, 3, 4) for read in (Read(number, 0, 1), Read(number, 3))]
    assert len(reads) == len(tower.widths(32)["deep"])
    without = tower_of(small_vit(class_token=False, global_pool="avg"))
    assert without.reads("deep") == [Read(number, 0) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("visual", "axes"),
    [
        (small_vit(), TOKENS),
        (small_timm.small_cnn(), CHANNELS_FIRST),
        (small_timm.small_swin(), CHANNELS_LAST),
    ],
)
def test_every_layer_lies_over_the_image(visual, axes):
    """Against the library's own intermediates, which are channels first in all of them."""
    tower = tower_of(visual.eval())
    assert tower.layout.axes == axes
    found = {}
    for name, part in tower.parts().items():
        part.register_forward_hook(lambda m, i, output, name=name: found.update({name: output}))
    x_BCHW = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        _, expected = visual.forward_intermediates(x_BCHW)
    for (name, output), expected_BDhw in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(tower.layout.spatial(output, name), expected_BDhw)


def test_an_output_that_does_not_lie_so_has_no_map():
    channels_last = torch.zeros(2, 4, 4, 16)
    with pytest.raises(InputError, match=r"layer s: an output of 2 x 4 x 4 x 16 is not channels first of 16"):
        Layout(CHANNELS_FIRST).spatial(channels_last, "layer s", 16)
    with pytest.raises(InputError, match=r"layer s: an output of 2 x 17 x 8 is not channels last"):
        Layout(CHANNELS_LAST).spatial(torch.zeros(2, 17, 8), "layer s")
    with pytest.raises(InputError, match="17 patches are no square"):
        Layout(TOKENS).spatial(torch.zeros(2, 17, 8), "layer s")


def test_convolutions_take_other_sizes_and_learnt_positions_do_not():
    assert tower_of(small_timm.small_cnn()).resizable(48)
    assert not tower_of(small_vit()).resizable(48)
    assert tower_of(small_vit(dynamic_img_size=True)).resizable(48)


def test_what_is_not_known_is_refused_in_one_line():
    with pytest.raises(InputError, match="image models of the class Linear are not known"):
        tower_of(nn.Linear(2, 2))

    class Unnumbered(nn.Module):
        def forward_head(self, x_BCHW):
            return x_BCHW

    with pytest.raises(InputError, match="of the class Unnumbered cannot be fine-tuned"):
        tower_of(Unnumbered()).blocks()
