"""Shape legend: B images, H height, W width, C channels, T tokens, D features."""

import re

import pytest
import torch
from torch import nn

from cohort.errors import InputError
from tests.trainables.towers import KINDS
from trainables.fine_tune_config import Method
from trainables.tower import (
    TrainableTower,
    check_method,
    check_space,
)
from vlm.encoders import load_encoder


def images(encoder, batch: int = 3) -> torch.Tensor:
    size = encoder.geometry.size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, size, size, 1), dtype=torch.uint8, generator=generator)


def lora(kind: str = "vit", **changes) -> Method:
    targets = "convolutions" if kind == "resnet" else "attention+mlp"
    settings = {"lora_rank": 3, "lora_alpha": 6.0, "lora_targets": targets} | changes
    return Method(name="lora", **settings)


METHODS = {
    "full": lambda kind: Method(name="full"),
    "last_blocks": lambda kind: Method(name="last_blocks", last_blocks=2),
    "bitfit": lambda kind: Method(name="bitfit"),
    "lora": lora,
}

# What each method may change, of the parameters' names in open_clip.
MAY_CHANGE = {
    ("full", "timm"): r".",
    ("full", "vit"): r".",
    ("full", "resnet"): r".",
    ("last_blocks", "timm"): r"trunk\.blocks\.[45]\.|trunk\.norm\.|head\.proj\.",
    ("last_blocks", "vit"): r"transformer\.resblocks\.[12]\.|ln_post\.|proj$",
    ("last_blocks", "resnet"): r"layer3\.0\.|layer4\.0\.|attnpool\.",
    ("bitfit", "timm"): r".*bias$|.*norm\d?\.weight$",
    ("bitfit", "vit"): r".*bias$|.*ln_\w+\.weight$",
    ("bitfit", "resnet"): r".*bias$|.*bn\d\.weight$|.*downsample\.1\.weight$",
    ("lora", "timm"): r"trunk\.blocks\.\d\.(attn|mlp)\.\w+\.weight$",
    ("lora", "vit"): r"transformer\.resblocks\.\d\.(attn\.in_proj_|attn\.out_proj\.|mlp\.c_\w+\.)weight$",
    ("lora", "resnet"): r"layer\d\.\d\.(conv\d|downsample\.0)\.weight$",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_changes_its_parameters_and_no_others(encoders, kind, method):
    encoder = encoders[kind]
    tower = TrainableTower(encoder, METHODS[method](kind), seed=0)
    if method == "lora":  # the additions start at nothing: the second factor is zero
        for name, parameter in tower.trained.items():
            if "lora_B" in name:
                nn.init.normal_(parameter.data, std=0.1)
    optimizer = torch.optim.SGD(tower.trained.values(), lr=1.0)
    generator = torch.Generator().manual_seed(1)
    features_BD = tower(images(encoder))
    (features_BD * torch.randn(features_BD.shape, generator=generator)).sum().backward()
    optimizer.step()
    tuned = tower.into_encoder()

    before, after = encoder.clip.visual.state_dict(), tuned.clip.visual.state_dict()
    assert list(before) == list(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    pattern = MAY_CHANGE[method, kind]
    assert all(re.match(pattern, name) for name in changed)
    # A bias that a softmax or a zero gradient cancels may stay; hardly anything else does.
    parameters = [name for name, _ in encoder.clip.visual.named_parameters() if re.match(pattern, name)]
    assert len(changed) >= 0.9 * len(parameters)
    assert all(
        torch.equal(tensor, tuned.clip.state_dict()[name])
        for name, tensor in encoder.clip.state_dict().items()
        if not name.startswith("visual.")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_tower_gives_the_features_of_the_unmerged_one(encoders, kind):
    encoder = encoders[kind]
    tower = TrainableTower(encoder, lora(kind), seed=0)
    images_BHWC = images(encoder)
    torch.testing.assert_close(tower.eval()(images_BHWC), encoder.image_features(images_BHWC).clone())
    for parameter in tower.trained.values():
        nn.init.normal_(parameter.data, std=0.1)
    features_BD = tower(images_BHWC).detach()
    tuned = tower.into_encoder()
    torch.testing.assert_close(tuned.image_features(images_BHWC).clone(), features_BD, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(features_BD, encoder.image_features(images_BHWC), atol=1e-4)
    assert [type(m) for m in tuned.clip.visual.modules()] == [type(m) for m in encoder.clip.visual.modules()]
    assert not any(parameter.requires_grad for parameter in tuned.clip.parameters())


def test_an_addition_by_hand(encoders):
    encoder = encoders["vit"]
    tower = TrainableTower(encoder, lora(lora_targets="c_fc"), seed=0)
    prefix = "visual.transformer.resblocks.1.mlp.c_fc"
    a_RD = tower.trained[f"{prefix}.lora_A.default.weight"]
    b_DR = tower.trained[f"{prefix}.lora_B.default.weight"]
    assert a_RD.shape[0] == b_DR.shape[1] == 3 and not b_DR.any()
    nn.init.normal_(b_DR.data)
    addition_DD = (6.0 / 3 * b_DR @ a_RD).detach()
    before_DD = encoder.clip.visual.transformer.resblocks[1].mlp.c_fc.weight
    after_DD = tower.into_encoder().clip.visual.transformer.resblocks[1].mlp.c_fc.weight
    torch.testing.assert_close(after_DD, before_DD + addition_DD)


def test_additions_follow_the_seed_and_leave_torchs_own_alone(encoders):
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    towers = [TrainableTower(encoders["vit"], lora(), seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(2), expected)
    a, b, c = (next(iter(tower.trained.values())) for tower in towers)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_dropout_is_part_of_the_additions_to_attention(encoders):
    encoder = encoders["vit"]
    tower = TrainableTower(encoder, lora(lora_targets="qkv", lora_dropout=0.5), seed=0)
    for parameter in tower.trained.values():
        nn.init.normal_(parameter.data, std=0.5)
    images_BHWC = images(encoder)
    assert not torch.equal(tower(images_BHWC), tower(images_BHWC))
    tower.eval()
    assert torch.equal(tower(images_BHWC), tower(images_BHWC))


def test_an_addition_is_in_the_layer_it_is_added_to(encoders):
    tower = TrainableTower(encoders["timm"], lora("timm"), seed=0)
    for name, layer in tower.layer.items():
        assert int(re.search(r"blocks\.(\d)", name)[1]) + 1 == layer


def test_weight_decay_spares_biases_norms_and_embeddings(encoders):
    for kind in KINDS:
        tower = TrainableTower(encoders[kind], Method(name="full"), seed=0)
        spared = {name for name in tower.trained if not tower.decays(name)}
        exempt = ("bias", "embedding", "pos_embed", "cls_token")
        for name, parameter in tower.trained.items():
            assert (name in spared) == (parameter.ndim == 1 or name.endswith(exempt)), name


@pytest.mark.parametrize("kind", ["timm", "vit"])
def test_pooled_features_train_what_stands_below_the_projection(encoder_names, kind):
    encoder = load_encoder(encoder_names[kind], features=("pooled",), device="cpu")
    tower = TrainableTower(encoder, Method(name="last_blocks", last_blocks=1), seed=0)
    assert not any("head" in name or name.endswith("proj") for name in tower.trained)
    images_BHWC = images(encoder)
    for parameter in tower.trained.values():
        nn.init.normal_(parameter.data, std=0.1)
    features_BD = tower.eval()(images_BHWC).detach()
    tuned = tower.into_encoder()
    torch.testing.assert_close(tuned.image_features(images_BHWC).clone(), features_BD)
    assert tuned.features == ("pooled",)
    # The model as a whole, which has the untouched projection, uses the tuned block below it.
    x_BCHW = torch.zeros(1, 3, encoder.geometry.size, encoder.geometry.size)
    assert not torch.equal(tuned.clip.visual(x_BCHW), encoder.clip.visual(x_BCHW))


def test_batch_norms_keep_their_statistics(encoders):
    encoder = encoders["resnet"]
    tower = TrainableTower(encoder, Method(name="full"), seed=0)
    tower.train()
    one_BD = tower(images(encoder))
    two_BD = torch.cat([tower(images(encoder)[:1]), tower(images(encoder)[1:])])
    torch.testing.assert_close(one_BD, two_BD, atol=1e-5, rtol=1e-4)
    statistics = {name: b for name, b in tower.tower.visual.named_buffers() if "running" in name}
    assert all(torch.equal(b, encoder.clip.visual.get_buffer(name)) for name, b in statistics.items())


@pytest.mark.parametrize(
    ("kind", "method", "message"),
    [
        (
            "timm",
            lora("timm", lora_targets="convolutions"),
            r"'convolutions' matches no layer .* attention \(12\)",
        ),
        (
            "vit",
            lora(lora_targets="attention+fc1"),
            r"'fc1' matches no layer .* by name c_fc, c_proj, proj, qkv",
        ),
        (
            "resnet",
            lora(lora_targets="attention"),
            r"'attention' matches no layer .* set search.fixed: \{lora_targets: convolutions\}, or let "
            r"search.ranges be \{method: \[full, last_blocks, bitfit\]\}; .* convolutions \(19\)",
        ),
        ("resnet", lora(lora_targets="c_proj"), "'c_proj' matches no layer"),
        ("vit", Method(name="last_blocks", last_blocks=4), "from 1 to the tower's 3 blocks, not 4"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_in_one_line(encoders, kind, method, message):
    with pytest.raises(InputError, match=message) as error:
        check_method(encoders[kind], method)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"encoder {encoders[kind].name}: method {method.name}: ")


def test_an_encoder_without_weights_is_refused():
    with pytest.raises(InputError, match="encoder pixels: method full: this encoder has no weights"):
        check_method(load_encoder("pixels"), Method(name="full"))


def test_a_method_is_counted_by_hand(encoders):
    # Three blocks of width 32: qkv 3 (32 + 96), proj 3 (32 + 32) for rank 3.
    assert check_method(encoders["vit"], lora(lora_targets="attention")) == 3 * 3 * (32 + 96 + 32 + 32)
    visual = encoders["vit"].clip.visual
    assert check_method(encoders["vit"], Method(name="full")) == sum(p.numel() for p in visual.parameters())


def test_a_study_is_checked_against_the_tower_before_it_starts(encoders):
    vit, resnet = encoders["vit"], encoders["resnet"]
    counts = check_space(vit, {"method": "lora", "lora_targets": "attention"}, {"lora_rank": {"high": 4}})
    assert counts == {"lora": check_method(vit, lora(lora_targets="attention", lora_rank=4))}
    with pytest.raises(InputError, match="last_blocks must be from 1 to the tower's 3 blocks, not 4"):
        check_space(vit)
    methods = {"method": ["full", "bitfit"]}
    assert list(check_space(resnet, {}, methods)) == ["full", "bitfit"]
    with pytest.raises(InputError, match="'attention' matches no layer"):
        check_space(resnet, {"last_blocks": 2})
    with pytest.raises(InputError, match="did you mean lora_rank"):
        check_space(vit, {"lora_rnak": 2})
