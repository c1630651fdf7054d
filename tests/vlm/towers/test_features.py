"""Several kinds of features from one forward pass, against forward hooks on the towers' own layers.

Shape legend: B images of a batch, T tokens, D features.
"""

import copy

import pytest
import timm
import torch

from tests.vlm.encoders.models import random_images, small_clip
from vlm.encoders import load_encoder
from vlm.towers import tower_of


def hooked(modules, run):
    """The outputs of modules while `run` runs."""
    outputs = []
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach()))
        for module in modules
    ]
    run()
    for handle in handles:
        handle.remove()
    return outputs


def of_kind(encoder, features_BD, kind):
    return features_BD[:, encoder.kinds[kind].columns]


def test_a_vision_transformer_gives_pooled_projected_and_deep_side_by_side(tmp_path):
    folder = small_clip(tmp_path / "clip", vision={"layers": 5})
    encoder = load_encoder(f"local-dir:{folder}", features=None, device="cpu")
    assert encoder.blocks == {"pooled": (32,), "projected": (8,), "deep": (32,) * 8}
    images_BHWC = random_images(encoder, channels=3)
    features_BD = encoder.image_features(images_BHWC)
    for kind in ("pooled", "projected"):
        alone = load_encoder(f"local-dir:{folder}", features=(kind,), device="cpu")
        torch.testing.assert_close(of_kind(encoder, features_BD, kind), alone.image_features(images_BHWC))
    visual = encoder.clip.visual
    blocks = visual.transformer.resblocks
    tokens = hooked(blocks, lambda: encoder.image_features(images_BHWC))[-4:]
    expected = []
    for tokens_BTD in map(visual.ln_post, tokens):
        expected += [tokens_BTD[:, 0], tokens_BTD[:, 1:].mean(1)]
    deep_BD = of_kind(encoder, features_BD, "deep")
    torch.testing.assert_close(deep_BD, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-5)
    joined_BD = of_kind(encoder, features_BD, "projected+deep")
    torch.testing.assert_close(joined_BD, features_BD[:, 32:])


def test_a_shallow_transformer_gives_what_blocks_it_has(tmp_path):
    folder = small_clip(tmp_path / "clip", vision={"layers": 1})
    assert load_encoder(f"local-dir:{folder}", features=("deep",)).blocks == {"deep": (32, 32)}


def test_a_resnet_gives_the_mean_of_each_stage(tmp_path):
    folder = small_clip(tmp_path / "clip", vision={"layers": [1, 1, 1, 1], "width": 8})
    encoder = load_encoder(f"local-dir:{folder}", features=None, device="cpu")
    assert encoder.blocks == {"projected": (8,), "deep": (8, 32, 64, 128, 256)}
    images_BHWC = random_images(encoder, channels=3)
    features_BD = encoder.image_features(images_BHWC)
    visual = encoder.clip.visual
    stages = [visual.avgpool, visual.layer1, visual.layer2, visual.layer3, visual.layer4]
    outputs = hooked(stages, lambda: encoder.image_features(images_BHWC))
    expected_BD = torch.cat([output.mean(dim=(2, 3)) for output in outputs], dim=1)
    torch.testing.assert_close(of_kind(encoder, features_BD, "deep"), expected_BD)
    alone = load_encoder(f"local-dir:{folder}", device="cpu")
    torch.testing.assert_close(of_kind(encoder, features_BD, "projected"), alone.image_features(images_BHWC))


def test_biomedclips_timm_trunk_gives_the_same_kinds(miniature, miniature_folder):
    encoder = load_encoder(f"local-dir:{miniature_folder}", features=None, device="cpu")
    assert list(encoder.blocks) == ["pooled", "projected", "deep"]
    images_BHWC = random_images(encoder, channels=3)
    features_BD = encoder.image_features(images_BHWC)
    torch.testing.assert_close(
        of_kind(encoder, features_BD, "projected"), miniature.image_features(images_BHWC), rtol=0, atol=1e-6
    )
    trunk = encoder.clip.visual.trunk
    tokens_BTD = trunk.norm(hooked(trunk.blocks, lambda: encoder.image_features(images_BHWC))[-1])
    last_BD = of_kind(encoder, features_BD, "deep")[:, -2 * trunk.embed_dim :]
    expected_BD = torch.cat([tokens_BTD[:, 0], tokens_BTD[:, 1:].mean(1)], dim=1)
    torch.testing.assert_close(last_BD, expected_BD, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "size", "expected"),
    [
        ("vit_tiny_patch16_224", 224, {"pooled": (192,), "deep": (192,) * 8}),
        ("resnet10t", 64, {"pooled": (512,), "deep": (64, 64, 128, 256, 512)}),
        ("convnext_atto", 64, {"pooled": (320,), "deep": (40, 80, 160, 320)}),
    ],
)
def test_plain_timm_models_give_pooled_and_deep(architecture, size, expected):
    model = timm.create_model(architecture, pretrained=False, num_classes=0).eval()
    tower = tower_of(model)
    assert tower.widths(size) == expected
    x_BCHW = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        (pooled_BD,) = tower.features(x_BCHW)["pooled"]
        torch.testing.assert_close(pooled_BD, model(x_BCHW))


def test_a_tower_of_kinds_is_copied_with_what_it_reads(tmp_path):
    """As fine-tuning copies it: backbone and tower share their parameters still."""
    encoder = load_encoder(f"local-dir:{small_clip(tmp_path / 'clip')}", features=("pooled",), device="cpu")
    backbone, tower = copy.deepcopy((encoder.backbone, encoder.tower))
    ours, theirs = ({id(one) for one in module.parameters()} for module in (tower, backbone))
    assert ours <= theirs and not ours & {id(one) for one in encoder.tower.parameters()}
