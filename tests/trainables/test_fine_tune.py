"""Shape legend: N images, B images of a batch, H height, W width, C labels, D features."""

import dataclasses
import json
import math

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from cohort.errors import InputError
from scoring import judging
from scoring.metrics import average_precision
from search_spaces.configuration import Configuration
from search_spaces.fine_tune import PAPER, SPACE
from tests.trainables.conftest import BUSY, LORA, params
from tests.trainables.towers import KINDS, build_tower
from trainables.checkpoints import CorruptCheckpoint
from trainables.fine_tune import (
    CHECKPOINT,
    Diverged,
    FineTuneTrial,
    OutOfMemory,
    checkpoint_bytes,
    load_best,
    load_newest,
)
from trainables.fine_tune_config import PAPER_TRAINING, Training
from trainables.losses import bce
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead

TIMES = ("seconds", "images_per_second", "data_wait_share", "peak_device_memory_mb")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    return {kind: load_encoder(build_tower(kind, root / kind), device="cpu") for kind in KINDS}


@pytest.fixture(scope="module")
def vit(encoders):
    return encoders["vit"]


def trial(encoder, data, *, training=None, head=None, seed=0, **changes) -> FineTuneTrial:
    names = ("micro_batch", "precision", "compile_tower")
    options = {name: changes.pop(name) for name in names if name in changes}
    return FineTuneTrial(
        Configuration(SPACE, 7, params(**changes), seed),
        encoder,
        data,
        training=training or Training(batch_size=8, patience=None),
        head=head,
        **{"precision": "fp32"} | options,
    )


def weights(some_trial) -> dict[str, torch.Tensor]:
    return some_trial.state_dict()["tensors"]


def random_head(width: int, *, l2: bool = False) -> LinearHead:
    rng = np.random.default_rng(5)
    return LinearHead(
        weight_DC=rng.normal(size=(width, 3)).astype(np.float32),
        bias_C=rng.normal(size=3).astype(np.float32),
        mean_D=rng.normal(size=width).astype(np.float32),
        scale_D=rng.uniform(0.5, 2, width).astype(np.float32),
        l2=l2,
    )


# ---- training ----


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tower_learns_and_its_record_is_whole(encoders, make_data, kind):
    encoder = encoders[kind]
    data = make_data(encoder.geometry.size)
    tuned = trial(encoder, data, epochs=4, tower_learning_rate=2e-3)
    curve = []
    while not tuned.finished:
        curve.append(tuned.run_epoch())
    assert curve[-1]["train_loss"] < 0.97 * curve[0]["train_loss"]
    record = tuned.record()
    assert (record.state, record.reason, record.number) == ("COMPLETE", "", 7)
    assert record.curve == curve
    assert record.params == params(epochs=4, tower_learning_rate=2e-3)
    best = max(curve, key=lambda point: point["objective"])
    assert (record.epoch, record.objective) == (best["epoch"], best["objective"])
    assert record.metrics["val.loss"] == best["val_loss"]
    assert set(record.thresholds) == {"fixed", "global", "per_label", "shrunk"}
    assert record.strategy in record.thresholds
    assert len(record.few) == 3
    with pytest.raises(RuntimeError, match="finished"):
        tuned.run_epoch()


def test_the_record_agrees_with_the_exported_encoder_and_head(vit, data):
    tuned = trial(vit, data, **LORA, epochs=2)
    tuned.run_epoch(), tuned.run_epoch()
    encoder, head = tuned.best_encoder(), tuned.best_head()
    features_ND = encoder.image_features(data.images_NHWC[data.val_rows_N]).numpy()
    logits_NC = head.logits(features_ND)
    record = tuned.record()
    expected = average_precision(data.val_targets_NC, logits_NC).mean()
    assert record.metrics["val.macro_ap"] == pytest.approx(expected)
    assert record.objective == pytest.approx(expected)
    assert record.metrics["val.loss"] == pytest.approx(
        bce(torch.tensor(logits_NC)[None], torch.tensor(data.val_targets_NC)).item(), rel=1e-4
    )
    assert record.metrics["val.labels_averaged"] == 3


def test_epoch_zero_with_a_probes_head_predicts_as_the_probe(vit, data):
    for l2 in (False, True):
        head = random_head(vit.width, l2=l2)
        still = trial(
            vit, data, init_head="probe", head=head, tower_learning_rate=0.0, head_learning_rate=0.0
        )
        still.run_epoch()
        expected_NC = head.logits(vit.image_features(data.images_NHWC[data.val_rows_N]).numpy())
        features_ND = still.best_encoder().image_features(data.images_NHWC[data.val_rows_N]).numpy()
        np.testing.assert_allclose(still.best_head().logits(features_ND), expected_NC, atol=1e-4)
        loss = bce(torch.tensor(expected_NC)[None], torch.tensor(data.val_targets_NC)).item()
        assert still.curve[0]["val_loss"] == pytest.approx(loss, rel=1e-5)


def test_a_fresh_head_starts_within_xaviers_bound_and_follows_the_seed(vit, data):
    one, same, other = (trial(vit, data, seed=seed) for seed in (0, 0, 1))
    weight_DC = weights(one)["weights/head.weight_DC"]
    bound = math.sqrt(6 / (vit.width + 3))
    assert 0.8 * bound < weight_DC.abs().max() <= bound
    assert torch.equal(weight_DC, weights(same)["weights/head.weight_DC"])
    assert not torch.equal(weight_DC, weights(other)["weights/head.weight_DC"])
    assert not weights(one)["weights/head.bias_C"].any()


def test_learning_rates_fall_by_layer_and_are_reported(vit, data):
    training = Training(batch_size=8, patience=None, schedule="constant")
    tuned = trial(vit, data, layer_decay=0.5, weight_decay=0.1, training=training)
    rate_of, decay_of = {}, {}
    for group in tuned._optimizer.param_groups:
        for parameter in group["params"]:
            name = next(name for name, p in tuned._parameters.items() if p is parameter)
            rate_of[name], decay_of[name] = group["lr"], group["weight_decay"]
    # Three blocks: stem 0, blocks 1 to 3, projection 4.
    for name, multiplier in {
        "tower.visual.conv1.weight": 1 / 16,
        "tower.visual.positional_embedding": 1 / 16,
        "tower.visual.transformer.resblocks.0.mlp.c_fc.weight": 1 / 8,
        "tower.visual.transformer.resblocks.2.ln_1.bias": 1 / 2,
        "tower.visual.ln_post.weight": 1 / 2,
        "tower.visual.proj": 1,
        "head.weight_DC": 10,
    }.items():
        assert rate_of[name] == pytest.approx(1e-3 * multiplier)
    assert len(rate_of) == len(tuned._parameters)
    kept = ("bias", "bias_C", "ln_1.weight", "ln_2.weight", "ln_pre.weight", "ln_post.weight", "embedding")
    assert all((decay_of[name] == 0) == name.endswith(kept) for name in decay_of)
    point = tuned.run_epoch()
    assert point["tower_learning_rate"] == pytest.approx(1e-3)
    assert point["head_learning_rate"] == pytest.approx(1e-2)


def test_gradients_do_not_depend_on_the_micro_batch(vit, data):
    rng = np.random.default_rng(0)
    train_targets_NC = data.train_targets_NC.copy()
    train_targets_NC[rng.random(train_targets_NC.shape) < 0.5] = np.nan  # unevenly masked
    train_targets_NC[0] = 1
    data = dataclasses.replace(data, train_targets_NC=train_targets_NC)
    whole, cut = (trial(vit, data, **BUSY, micro_batch=size) for size in (8, 3))
    for one in (whole, cut):
        images_BHWC = torch.tensor(data.images_NHWC[data.train_rows_N[:8]])
        loss, plain = one._gradients(images_BHWC, torch.tensor(data.train_targets_NC[:8]), step=0)
        one.found = [loss.item(), plain.item(), *(p.grad for p in one._parameters.values())]
    for a, b in zip(whole.found, cut.found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_the_gradient_is_that_of_the_masked_mean(vit, data):
    tuned = trial(vit, data, micro_batch=3)
    images_BHWC = torch.tensor(data.images_NHWC[data.train_rows_N])
    targets_BC = torch.tensor(data.train_targets_NC)
    assert targets_BC.isnan().any()
    tuned._gradients(images_BHWC, targets_BC, step=0)
    got_DC = tuned._head.weight_DC.grad.clone()
    logits_BC = tuned._head(tuned._tower(images_BHWC))
    entries_BC = torch.nn.functional.binary_cross_entropy_with_logits(
        logits_BC, targets_BC.nan_to_num(), reduction="none"
    )
    mean = entries_BC[~targets_BC.isnan()].mean()
    torch.testing.assert_close(got_DC, torch.autograd.grad(mean, tuned._head.weight_DC)[0])


def test_running_means_by_hand(vit, data):
    tuned = trial(vit, data, ema_decay=0.15, training=Training(batch_size=12, patience=None, clip_norm=None))
    bias = tuned._head.bias_C
    seen = [bias.detach().clone()]
    update = tuned._optimizer.step
    tuned._optimizer.step = lambda *a, **k: (update(*a, **k), seen.append(bias.detach().clone()))
    tuned.run_epoch()
    assert len(seen) == 3
    # Decays of the first two steps: 1 / 10, then min(0.15, 2 / 11).
    first = 0.1 * seen[0] + 0.9 * seen[1]
    torch.testing.assert_close(weights(tuned)["averages/head.bias_C"], 0.15 * first + 0.85 * seen[2])
    torch.testing.assert_close(bias.detach(), seen[2])
    torch.testing.assert_close(torch.tensor(tuned.best_head().bias_C), weights(tuned)["averages/head.bias_C"])


def test_gradients_are_clipped_to_the_norm(vit, data):
    tuned = trial(vit, data, training=Training(batch_size=24, patience=None, clip_norm=1e-3))
    norms = []
    step = tuned._optimizer.step

    def spy(*a, **k):
        norms.append(torch.cat([p.grad.flatten() for p in tuned._parameters.values()]).norm().item())
        return step(*a, **k)

    tuned._optimizer.step = spy
    tuned.run_epoch()
    assert norms == pytest.approx([1e-3], rel=1e-3)


def test_a_fresh_optimiser_forgets_the_epoch_before(vit, data):
    training = Training(batch_size=8, patience=None, fresh_optimizer=True)
    tuned = trial(vit, data, training=training)
    tuned.run_epoch(), tuned.run_epoch()
    assert tuned._optimizer.state[tuned._head.bias_C]["step"].item() == 3
    assert not any(name.startswith("first/") for name in weights(tuned))


def test_patience_ends_a_trial_and_the_best_epoch_is_kept(vit, data, monkeypatch):
    values = iter([0.4, 0.6, 0.5, 0.55])
    monkeypatch.setattr(judging, "objective", lambda *_: np.array([next(values, 0.0)]))
    tuned = trial(vit, data, training=Training(batch_size=8, patience=2), epochs=8)
    heads = []
    while not tuned.finished:
        tuned.run_epoch()
        heads.append(tuned._head.bias_C.detach().clone())
    record = tuned.record()
    assert (record.state, record.epoch, record.objective, len(record.curve)) == ("COMPLETE", 2, 0.6, 4)
    assert record.reason == "no better objective in 2 epochs up to epoch 4"
    assert np.array_equal(record.head.bias_C, heads[1].numpy())


def test_the_best_epoch_can_be_that_of_the_lowest_validation_loss(vit, data):
    tuned = trial(vit, data, training=Training(batch_size=8, patience=None, best_by="loss"), epochs=3)
    while not tuned.finished:
        tuned.run_epoch()
    assert tuned.record().metrics["val.loss"] == min(point["val_loss"] for point in tuned.curve)


def test_the_papers_configuration_trains_as_the_paper_describes(vit, data):
    tuned = FineTuneTrial(
        Configuration(SPACE, 0, PAPER), vit, data, training=PAPER_TRAINING, precision="fp32"
    )
    assert [tuned.run_epoch()["tower_learning_rate"] for _ in range(2)] == [1e-5, 1e-5]
    assert tuned.curve[1]["head_learning_rate"] == 1e-5
    assert tuned.trained_parameters == sum(p.numel() for p in vit.tower.parameters()) + 3 * vit.width + 3
    assert PAPER_TRAINING.batch_size == 24 and PAPER_TRAINING.patience == 5


def test_the_encoder_stays_as_it_was(vit, data):
    before = {name: tensor.clone() for name, tensor in vit.clip.state_dict().items()}
    for method in ({}, LORA, {"method": "bitfit", "adapter_learning_rate": 1e-2}):
        trial(vit, data, **method).run_epoch()
    assert all(torch.equal(tensor, before[name]) for name, tensor in vit.clip.state_dict().items())


def test_colour_images_are_trained_on_as_well(vit, make_data):
    assert math.isfinite(trial(vit, make_data(channels=3), **BUSY).run_epoch()["train_loss"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_come_close(vit, data, precision):
    exact = trial(vit, data).run_epoch()
    rough = trial(vit, data, precision=precision)
    point = rough.run_epoch()
    assert point["train_loss"] == pytest.approx(exact["train_loss"], rel=0.05)
    assert bool(rough.state_dict()["progress"]["scaler"]) == (precision == "fp16")


def test_nothing_outside_the_trial_is_disturbed(vit, data):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    trial(vit, data, **LORA, **BUSY).run_epoch()
    assert torch.equal(torch.rand(3), expected)


# ---- failures ----


def test_a_loss_that_is_no_number_names_step_and_learning_rate(vit, data):
    tuned = trial(vit, data)
    tuned.run_epoch()
    with torch.no_grad():
        tuned._head.bias_C.fill_(math.nan)
    with pytest.raises(
        Diverged, match=r"^diverged: the training loss was nan in step 4 \(epoch 2\) at learning"
    ):
        tuned.run_epoch()
    assert tuned.finished
    record = tuned.record()
    assert record.state == "FAIL" and record.reason.startswith("diverged") and math.isnan(record.objective)
    assert record.head is None and len(record.curve) == 1
    with pytest.raises(RuntimeError, match="nothing to continue from"):
        tuned.state_dict()


def test_weights_that_are_no_numbers_after_the_last_step_are_noticed(vit, data):
    tuned = trial(vit, data)
    update = tuned._update

    def last_step_breaks(position: int) -> None:
        update(position)
        if position == tuned.steps_an_epoch - 1:
            tuned._head.bias_C.data.fill_(math.nan)

    tuned._update = last_step_breaks
    with pytest.raises(
        Diverged, match=r"^diverged: a logit on validation was not finite in step 3 \(epoch 1\)"
    ):
        tuned.run_epoch()


def test_a_far_too_large_learning_rate_diverges(vit, data):
    tuned = trial(vit, data, tower_learning_rate=1.0, head_learning_rate=10.0, epochs=50, weight_decay=1e4)
    with pytest.raises(Diverged):
        while not tuned.finished:
            tuned.run_epoch()


class SmallMemory(torch.nn.Module):
    """A tower on a device that holds so many images at once."""

    def __init__(self, tower, holds: int) -> None:
        super().__init__()
        self.tower, self.holds, self.tried = tower, holds, []

    def forward(self, images_BHWC):
        self.tried.append(len(images_BHWC))
        if len(images_BHWC) > self.holds:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.tower(images_BHWC)


def test_a_full_memory_halves_the_micro_batch_and_changes_no_result(vit, data):
    small, cut = trial(vit, data, **LORA, **BUSY), trial(vit, data, **LORA, **BUSY, micro_batch=2)
    small._features = SmallMemory(small._tower, holds=3)
    point = small.run_epoch()
    assert small._features.tried[:5] == [8, 4, 2, 2, 2]
    assert point["micro_batch"] == small.micro_batch == 2
    assert cut.run_epoch()["train_loss"] == point["train_loss"]
    expected = weights(cut)
    assert all(torch.equal(weights(small)[name], expected[name]) for name in expected if "best" not in name)


def test_a_memory_that_holds_no_image_fails_the_trial(vit, data):
    small = trial(vit, data)
    small._features = SmallMemory(small._tower, holds=0)
    with pytest.raises(OutOfMemory, match=r"^out of memory: one image of encoder"):
        small.run_epoch()
    assert small._features.tried == [8, 4, 2, 1]
    assert small.record().state == "FAIL"


def test_a_missing_gpu_is_said_in_one_line(vit, data):
    config = Configuration(SPACE, 0, params())
    with pytest.raises(InputError, match=r"^device cuda:99 is not there: this machine shows"):
        FineTuneTrial(config, vit, data, device="cuda:99")


# ---- resuming ----


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_resumed_run_equals_the_uninterrupted_one_bit_for_bit(vit, data, tmp_path, method):
    changes = BUSY | (LORA if method == "lora" else {"layer_decay": 0.7})
    through = trial(vit, data, **changes)
    while not through.finished:
        through.run_epoch()

    first = trial(vit, data, **changes)
    first.run_epoch(), first.run_epoch()
    first.save_checkpoint(tmp_path)
    torch.rand(5)  # whatever else draws
    second = trial(vit, data, **changes)
    second.load_checkpoint(tmp_path)
    assert second.epoch == 2
    while not second.finished:
        second.run_epoch()

    expected, got = through.state_dict(), second.state_dict()
    assert set(expected["tensors"]) == set(got["tensors"])
    for name, tensor in expected["tensors"].items():
        assert torch.equal(tensor, got["tensors"][name]), name

    def timeless(progress):
        curve = [{k: v for k, v in point.items() if k not in TIMES} for point in progress["curve"]]
        return {k: v for k, v in progress.items() if k != "seconds"} | {"curve": curve}

    assert timeless(got["progress"]) == timeless(expected["progress"])
    assert second.record().thresholds == through.record().thresholds
    assert second.best_encoder().fingerprint == through.best_encoder().fingerprint


def test_a_resumed_trial_keeps_the_best_epoch_before_it(vit, data, tmp_path, monkeypatch):
    values = iter([0.6, 0.5])
    monkeypatch.setattr(judging, "objective", lambda *_: np.array([next(values, 0.1)]))
    first = trial(vit, data)
    first.run_epoch(), first.run_epoch()
    first.save_checkpoint(tmp_path)
    second = trial(vit, data)
    second.load_checkpoint(tmp_path)
    assert second.record().epoch == 1
    assert np.array_equal(second.best_head().weight_DC, first.best_head().weight_DC)
    assert second.best_encoder().fingerprint == first.best_encoder().fingerprint
    second.run_epoch()
    assert second.record().epoch == 1


def test_the_scaler_is_resumed(vit, data):
    first, second = (trial(vit, data, precision="fp16") for _ in range(2))
    first._scaler.load_state_dict(first._scaler.state_dict() | {"scale": 128.0})
    first.run_epoch()
    second.load_state_dict(first.state_dict())
    assert second._scaler.get_scale() == first._scaler.get_scale() == 128
    assert second._scaler._get_growth_tracker() == first._scaler._get_growth_tracker()


def test_a_state_shares_no_memory_with_the_trial(vit, data):
    first = trial(vit, data)
    first.run_epoch()
    state = first.state_dict()
    kept = {name: tensor.clone() for name, tensor in state["tensors"].items()}
    second = trial(vit, data)
    second.load_state_dict(state)
    first.run_epoch(), second.run_epoch()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in state["tensors"].items())
    json.dumps(state["progress"])


def test_a_checkpoint_is_no_larger_than_announced(vit, data, tmp_path):
    for ema, changes in ((False, {}), (True, BUSY)):
        tuned = trial(vit, data, **changes)
        for _ in range(3):
            tuned.run_epoch()
        size = tuned.save_checkpoint(tmp_path).stat().st_size
        assert size < checkpoint_bytes(tuned.trained_parameters, ema=ema) + 50_000


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "missing"])
def test_a_damaged_checkpoint_is_passed_over(vit, data, tmp_path, harm):
    tuned = trial(vit, data)
    tuned.run_epoch()
    tuned.save_checkpoint(tmp_path / "1")
    tuned.run_epoch()
    path = tuned.save_checkpoint(tmp_path / "2")
    whole = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"cut": whole[:middle], "flip": flipped, "empty": b""}[harm])
    again = trial(vit, data)
    with pytest.raises(CorruptCheckpoint, match=CHECKPOINT):
        again.load_checkpoint(tmp_path / "2")
    folder, lines = load_newest(again, [tmp_path / "2", tmp_path / "1"])
    assert folder == tmp_path / "1" and again.epoch == 1
    assert len(lines) == 1 and str(path) in lines[0] and "\n" not in lines[0]
    assert load_newest(again, []) == (None, [])


def test_a_checkpoint_of_something_else_is_refused_in_one_line(encoders, data, tmp_path):
    vit = encoders["vit"]
    tuned = trial(vit, data)
    tuned.run_epoch()
    tuned.save_checkpoint(tmp_path)
    other = vit.with_backbone(vit.backbone, vit.tower)
    other = dataclasses.replace(other, fingerprint="0" * 64)
    for again, message in [
        (trial(other, data), "trained on another encoder"),
        (trial(vit, dataclasses.replace(data, labels=("A", "B", "C"))), "labels must be"),
        (trial(vit, data, weight_decay=0.5), "params must be"),
        (trial(vit, data, seed=1), "seed must be 1"),
        (trial(vit, data, training=Training(batch_size=4)), "training must be"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            again.load_checkpoint(tmp_path)
        assert "\n" not in str(error.value)
        with pytest.raises(InputError):
            load_newest(again, [tmp_path])


# ---- export ----


@pytest.mark.parametrize("kind", KINDS)
def test_the_tuned_tower_loads_in_plain_open_clip_with_equal_features(encoders, make_data, tmp_path, kind):
    encoder = encoders[kind]
    data = make_data(encoder.geometry.size)
    lora = LORA | ({"lora_targets": "convolutions"} if kind == "resnet" else {})
    tuned = trial(encoder, data, **lora)
    tuned.run_epoch()
    tuned_encoder = tuned.best_encoder()
    assert tuned_encoder.fingerprint != encoder.fingerprint
    tuned_encoder.save(tmp_path)
    if kind == "timm":  # plain open_clip asks the hub for a text tower that is not named by a path
        config = json.loads((tmp_path / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"] |= {"hf_model_name": str(tmp_path), "hf_model_pretrained": False}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    image_HWC = data.images_NHWC[data.val_rows_N[0]]
    ours_BD = tuned_encoder.image_features(image_HWC[None])
    picture = Image.fromarray(np.repeat(image_HWC, 3, axis=2))
    with torch.no_grad():
        theirs_BD = model.eval().encode_image(transform(picture)[None])
    torch.testing.assert_close(ours_BD, theirs_BD, atol=1e-5, rtol=1e-5)
    untuned_BD = encoder.image_features(image_HWC[None])
    assert not torch.allclose(ours_BD, untuned_BD, atol=1e-4)
    assert load_encoder(f"local-dir:{tmp_path}", device="cpu").fingerprint == tuned_encoder.fingerprint


def test_the_best_epoch_alone_is_kept_and_loaded(vit, data, tmp_path):
    tuned = trial(vit, data, **LORA)
    tuned.run_epoch()
    path = tuned.save_best(tmp_path)
    assert path.stat().st_size < 4 * tuned.trained_parameters + 10_000
    encoder, head = load_best(tmp_path, vit)
    assert encoder.fingerprint == tuned.best_encoder().fingerprint
    assert all(np.array_equal(a, tuned.best_head().tensors()[name]) for name, a in head.tensors().items())
    with pytest.raises(InputError, match="trained on another encoder"):
        load_best(tmp_path, dataclasses.replace(vit, fingerprint="0" * 64))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptCheckpoint):
        load_best(tmp_path, vit)


def test_parts_that_do_not_fit_are_refused(encoders, vit, data):
    with pytest.raises(ValueError, match="must hold images of 160 x 160 pixels"):
        trial(encoders["timm"], data)
    with pytest.raises(ValueError, match="head must be given for init_head probe"):
        trial(vit, data, init_head="probe")
    with pytest.raises(ValueError, match=r"head must be \(16, 3\), not \(8, 3\)"):
        trial(vit, data, init_head="probe", head=random_head(8))
    with pytest.raises(ValueError, match="precision must be one of"):
        trial(vit, data, precision="fp8")
    with pytest.raises(ValueError, match="micro_batch must be at least 1"):
        trial(vit, data, micro_batch=0)


# ---- compiled ----


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, LORA])
def test_a_compiled_tower_trains_as_the_plain_one(vit, data, tmp_path, changes):
    plain, compiled = trial(vit, data, **changes), trial(vit, data, **changes, compile_tower=True)
    for _ in range(2):
        expected, point = plain.run_epoch(), compiled.run_epoch()
        if "lora_dropout" not in changes:  # a compiled dropout draws in its own order
            assert point["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
            assert point["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)
    compiled.save_checkpoint(tmp_path)
    again = trial(vit, data, **changes)
    again.load_checkpoint(tmp_path)
    for name, tensor in weights(compiled).items():
        assert torch.equal(weights(again)[name], tensor)


# ---- accelerators ----


def on_gpu(encoder, data, **changes) -> FineTuneTrial:
    options = {key: changes.pop(key) for key in ("micro_batch", "precision", "training") if key in changes}
    return FineTuneTrial(
        Configuration(SPACE, 7, params(**changes)),
        encoder,
        data,
        device="cuda",
        **{"precision": "fp32", "training": Training(batch_size=8, patience=None)} | options,
    )


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_as_the_cpu_does(vit, data, precision):
    tolerance = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 2e-2}[precision]
    cpu, gpu = trial(vit, data, **BUSY), on_gpu(vit, data, **BUSY, precision=precision)
    for _ in range(2):
        expected, point = cpu.run_epoch(), gpu.run_epoch()
        assert point["train_loss"] == pytest.approx(expected["train_loss"], abs=tolerance)
        assert point["val_loss"] == pytest.approx(expected["val_loss"], abs=tolerance)
        assert 0 < point["peak_device_memory_mb"] < 1000
    assert gpu.record().state == "COMPLETE"
    assert gpu.best_encoder().fingerprint != vit.fingerprint


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_trial_resumed_on_a_gpu_goes_on_as_it_would_have(vit, data, tmp_path, precision):
    whole = on_gpu(vit, data, **LORA, **BUSY, precision=precision)
    whole.run_epoch()
    whole.save_checkpoint(tmp_path)
    resumed = on_gpu(vit, data, **LORA, **BUSY, precision=precision)
    resumed.load_checkpoint(tmp_path)
    for _ in range(2):
        expected, point = whole.run_epoch(), resumed.run_epoch()
        assert point["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert point["objective"] == pytest.approx(expected["objective"], rel=1e-5)


@pytest.mark.gpu
def test_a_gpu_that_is_really_full_halves_the_micro_batch(encoders, make_data):
    encoder = encoders["timm"]
    data = make_data(encoder.geometry.size)
    roomy = on_gpu(encoder, data, training=Training(batch_size=24, patience=None))
    roomy.run_epoch()
    needed = torch.cuda.max_memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    del roomy
    torch.cuda.empty_cache()
    left = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((left + 0.6 * (needed - left)) / total)
    try:
        tight = on_gpu(encoder, data, training=Training(batch_size=24, patience=None))
        point = tight.run_epoch()
        assert point["micro_batch"] < 24 and math.isfinite(point["train_loss"])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


# ---- the true size ----


@pytest.mark.slow
def test_a_vit_b_16_of_biomedclips_construction_takes_two_steps(tmp_path, make_data, monkeypatch):
    from tests.vlm import miniature_biomedclip

    vision = {"timm_model_name": "vit_base_patch16_224", "image_size": 224}
    config = miniature_biomedclip.MODEL_CONFIG
    config = config | {"embed_dim": 512, "vision_cfg": config["vision_cfg"] | vision}
    monkeypatch.setattr(miniature_biomedclip, "MODEL_CONFIG", config)
    folder = miniature_biomedclip.build_miniature_biomedclip(tmp_path / "vit_b_16")
    encoder = load_encoder(f"local-dir:{folder}", device="cpu")
    data = make_data(224)
    data = dataclasses.replace(
        data, train_rows_N=data.train_rows_N[-8:], train_targets_NC=data.train_targets_NC[-8:]
    )
    tuned = trial(encoder, data, training=Training(batch_size=4, patience=None), **BUSY)
    assert tuned.trained_parameters > 86e6
    point = tuned.run_epoch()
    assert math.isfinite(point["train_loss"]) and math.isfinite(point["val_loss"])
    assert tuned.steps_an_epoch == 2
    tuned.save_checkpoint(tmp_path)
    again = trial(encoder, data, training=Training(batch_size=4, patience=None), **BUSY)
    again.load_checkpoint(tmp_path)
    assert again.epoch == 1
