"""Shape legend: N images, B images of a batch, H height, W width, C labels, D features."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from cohort.errors import InputError
from scoring.metrics import average_precision
from search_spaces.configuration import Configuration
from search_spaces.fine_tune import PAPER, SPACE
from tests.trainables.fine_tuning import BUSY, LORA, best, params, random_head, trial, weights
from tests.trainables.towers import KINDS
from trainables import fine_tune_judging, fine_tune_step
from trainables.fine_tune import FineTuneTrial
from trainables.fine_tune_compute import Compute, Diverged, OutOfMemory
from trainables.fine_tune_config import PAPER_TRAINING, Training
from trainables.fine_tune_state import load_checkpoint
from trainables.losses import plain_loss
from vlm.encoders import load_encoder


def validation(data) -> tuple[np.ndarray, np.ndarray]:
    """Images and targets that are judged."""
    return data.images_NHWC[data.rows_N[data.judged_N()]], data.judged().targets_NC


def training(data) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and targets that are trained on."""
    rows_N = data.training_N()
    return torch.tensor(data.images_NHWC[data.rows_N[rows_N]]), torch.tensor(data.targets_NC[rows_N])


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


def test_the_record_agrees_with_the_exported_encoder_and_head(vit, data, tmp_path):
    tuned = trial(vit, data, **LORA, epochs=2)
    tuned.run_epoch(), tuned.run_epoch()
    encoder, head = best(tuned, vit, tmp_path)
    images_NHWC, targets_NC = validation(data)
    logits_NC = head.logits(encoder.image_features(images_NHWC).numpy())
    record = tuned.record()
    expected = average_precision(targets_NC, logits_NC).mean()
    assert record.metrics["val.macro_ap"] == pytest.approx(expected)
    assert record.objective == pytest.approx(expected)
    assert record.metrics["val.loss"] == pytest.approx(
        plain_loss(["bce"], torch.tensor(logits_NC)[None], torch.tensor(targets_NC)).item(), rel=1e-4
    )
    assert record.metrics["val.labels_averaged"] == 3


def test_epoch_zero_with_a_probes_head_predicts_as_the_probe(vit, data, tmp_path):
    images_NHWC, targets_NC = validation(data)
    for l2 in (False, True):
        head = random_head(vit.width, l2=l2)
        still = trial(
            vit, data, init_head="probe", head=head, tower_learning_rate=0.0, head_learning_rate=0.0
        )
        still.run_epoch()
        expected_NC = head.logits(vit.image_features(images_NHWC).numpy())
        tuned, tuned_head = best(still, vit, tmp_path)
        features_ND = tuned.image_features(images_NHWC).numpy()
        np.testing.assert_allclose(tuned_head.logits(features_ND), expected_NC, atol=1e-4)
        loss = plain_loss(["bce"], torch.tensor(expected_NC)[None], torch.tensor(targets_NC)).item()
        assert still.state.curve[0]["val_loss"] == pytest.approx(loss, rel=1e-5)


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
    for group in tuned.state.optimizer.param_groups:
        for parameter in group["params"]:
            name = next(name for name, p in tuned.state.parameters.items() if p is parameter)
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
    assert len(rate_of) == len(tuned.state.parameters)
    kept = ("bias", "bias_C", "ln_1.weight", "ln_2.weight", "ln_pre.weight", "ln_post.weight", "embedding")
    assert all((decay_of[name] == 0) == name.endswith(kept) for name in decay_of)
    point = tuned.run_epoch()
    assert point["tower_learning_rate"] == pytest.approx(1e-3)
    assert point["head_learning_rate"] == pytest.approx(1e-2)


def test_gradients_do_not_depend_on_the_micro_batch(vit, data):
    rng = np.random.default_rng(0)
    targets_NC, train_N = data.targets_NC.copy(), data.training_N()
    masked_NC = rng.random((len(train_N), 3)) < 0.5  # unevenly
    targets_NC[train_N] = np.where(masked_NC, np.nan, targets_NC[train_N])
    targets_NC[train_N[0]] = 1
    images_NHWC, targets_NC = training(dataclasses.replace(data, targets_NC=targets_NC))
    whole, cut = (trial(vit, data, **BUSY, micro_batch=size) for size in (8, 3))
    for one in (whole, cut):
        loss, plain = one.steps.gradients(images_NHWC[:8], targets_NC[:8], step=0)
        one.found = [loss.item(), plain.item(), *(p.grad for p in one.state.parameters.values())]
    for a, b in zip(whole.found, cut.found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_the_gradient_is_that_of_the_masked_mean(vit, data):
    tuned = trial(vit, data, micro_batch=3)
    images_BHWC, targets_BC = training(data)
    assert targets_BC.isnan().any()
    tuned.steps.gradients(images_BHWC, targets_BC, step=0)
    got_DC = tuned.model.head.weight_DC.grad.clone()
    logits_BC = tuned.model.head(tuned.model.tower(images_BHWC))
    entries_BC = torch.nn.functional.binary_cross_entropy_with_logits(
        logits_BC, targets_BC.nan_to_num(), reduction="none"
    )
    mean = entries_BC[~targets_BC.isnan()].mean()
    torch.testing.assert_close(got_DC, torch.autograd.grad(mean, tuned.model.head.weight_DC)[0])


def test_running_means_by_hand(vit, data):
    tuned = trial(vit, data, ema_decay=0.15, training=Training(batch_size=12, patience=None, clip_norm=None))
    bias = tuned.model.head.bias_C
    seen = [bias.detach().clone()]
    update = tuned.state.optimizer.step
    tuned.state.optimizer.step = lambda *a, **k: (update(*a, **k), seen.append(bias.detach().clone()))
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
    step = tuned.state.optimizer.step

    def spy(*a, **k):
        norms.append(torch.cat([p.grad.flatten() for p in tuned.state.parameters.values()]).norm().item())
        return step(*a, **k)

    tuned.state.optimizer.step = spy
    tuned.run_epoch()
    assert norms == pytest.approx([1e-3], rel=1e-3)


def test_a_fresh_optimiser_forgets_the_epoch_before(vit, data):
    training = Training(batch_size=8, patience=None, fresh_optimizer=True)
    tuned = trial(vit, data, training=training)
    tuned.run_epoch(), tuned.run_epoch()
    assert tuned.state.optimizer.state[tuned.model.head.bias_C]["step"].item() == 3
    assert not any(name.startswith("first/") for name in weights(tuned))


def test_patience_ends_a_trial_and_the_best_epoch_is_kept(vit, data, monkeypatch):
    values = iter([0.4, 0.6, 0.5, 0.55])
    monkeypatch.setattr(fine_tune_judging, "objective", lambda *_: np.array([next(values, 0.0)]))
    tuned = trial(vit, data, training=Training(batch_size=8, patience=2), epochs=8)
    heads = []
    while not tuned.finished:
        tuned.run_epoch()
        heads.append(tuned.model.head.bias_C.detach().clone())
    record = tuned.record()
    assert (record.state, record.epoch, record.objective, len(record.curve)) == ("COMPLETE", 2, 0.6, 4)
    assert record.reason == "no better objective in 2 epochs up to epoch 4"
    assert np.array_equal(record.head.bias_C, heads[1].numpy())


def test_the_best_epoch_can_be_that_of_the_lowest_validation_loss(vit, data):
    tuned = trial(vit, data, training=Training(batch_size=8, patience=None, best_by="loss"), epochs=3)
    while not tuned.finished:
        tuned.run_epoch()
    assert tuned.record().metrics["val.loss"] == min(point["val_loss"] for point in tuned.state.curve)


def test_the_papers_configuration_trains_as_the_paper_describes(vit, data):
    tuned = FineTuneTrial(
        Configuration(SPACE, 0, PAPER), vit, data, training=PAPER_TRAINING, compute=Compute(precision="fp32")
    )
    assert [tuned.run_epoch()["tower_learning_rate"] for _ in range(2)] == [1e-5, 1e-5]
    assert tuned.state.curve[1]["head_learning_rate"] == 1e-5
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
    assert bool(rough.state.progress()["scaler"]) == (precision == "fp16")


def test_nothing_outside_the_trial_is_disturbed(vit, data):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    trial(vit, data, **LORA, **BUSY).run_epoch()
    assert torch.equal(torch.rand(3), expected)


# ---- failures ----


def test_a_loss_that_is_no_number_names_step_and_learning_rate(vit, data, tmp_path):
    tuned = trial(vit, data)
    tuned.run_epoch()
    with torch.no_grad():
        tuned.model.head.bias_C.fill_(math.nan)
    with pytest.raises(
        Diverged, match=r"^diverged: the training loss was nan in step 4 \(epoch 2\) at learning"
    ):
        tuned.run_epoch()
    assert tuned.finished
    record = tuned.record()
    assert record.state == "FAIL" and record.reason.startswith("diverged") and math.isnan(record.objective)
    assert record.head is None and len(record.curve) == 1
    with pytest.raises(RuntimeError, match="nothing to continue from"):
        tuned.save_checkpoint(tmp_path)


def test_weights_that_are_no_numbers_after_the_last_step_are_noticed(vit, data, monkeypatch):
    tuned, update, steps = trial(vit, data), fine_tune_step.update, []

    def last_step_breaks(*arguments) -> None:
        update(*arguments)
        steps.append(None)
        if len(steps) == tuned.steps.an_epoch:
            tuned.model.head.bias_C.data.fill_(math.nan)

    monkeypatch.setattr(fine_tune_step, "update", last_step_breaks)
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
    small.model.features = SmallMemory(small.model.tower, holds=3)
    point = small.run_epoch()
    assert small.model.features.tried[:5] == [8, 4, 2, 2, 2]
    assert point["micro_batch"] == small.state.micro_batch == 2
    assert cut.run_epoch()["train_loss"] == point["train_loss"]
    expected = weights(cut)
    assert all(torch.equal(weights(small)[name], expected[name]) for name in expected if "best" not in name)


def test_a_memory_that_holds_no_image_fails_the_trial(vit, data):
    small = trial(vit, data)
    small.model.features = SmallMemory(small.model.tower, holds=0)
    with pytest.raises(OutOfMemory, match=r"^out of memory: one image of encoder"):
        small.run_epoch()
    assert small.model.features.tried == [8, 4, 2, 1]
    assert small.record().state == "FAIL"


def test_a_missing_gpu_is_said_in_one_line(vit, data):
    config = Configuration(SPACE, 0, params())
    with pytest.raises(InputError, match=r"^device cuda:99 is not there: this machine shows"):
        FineTuneTrial(config, vit, data, compute=Compute(device="cuda:99"))


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
    with pytest.raises(
        ValueError, match="objective_name must be one of macro_ap, macro_auroc, macro_f1, not"
    ):
        FineTuneTrial(Configuration(SPACE, 7, params()), vit, data, objective_name="auc")
    fold_N = np.where(data.rows_N % 2, data.fold_N, 1)
    with pytest.raises(ValueError, match="data must have one fold, not 2"):
        trial(
            vit,
            dataclasses.replace(data, fold_N=fold_N, threshold_fold_N=np.where(fold_N < 0, -1, 0)),
        )


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
    load_checkpoint(tmp_path, again.state, again.identity)
    for name, tensor in weights(compiled).items():
        assert torch.equal(weights(again)[name], tensor)


# ---- accelerators ----


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_as_the_cpu_does(vit, data, tmp_path, precision):
    tolerance = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 2e-2}[precision]
    cpu, gpu = trial(vit, data, **BUSY), trial(vit, data, **BUSY, precision=precision, device="cuda")
    for _ in range(2):
        expected, point = cpu.run_epoch(), gpu.run_epoch()
        assert point["train_loss"] == pytest.approx(expected["train_loss"], abs=tolerance)
        assert point["val_loss"] == pytest.approx(expected["val_loss"], abs=tolerance)
        assert 0 < point["peak_device_memory_mb"] < 1000
    assert gpu.record().state == "COMPLETE"
    assert best(gpu, vit, tmp_path)[0].fingerprint != vit.fingerprint


@pytest.mark.gpu
def test_a_gpu_that_is_really_full_halves_the_micro_batch(encoders, make_data):
    encoder = encoders["timm"]
    data = make_data(encoder.geometry.size)
    roomy = trial(encoder, data, device="cuda", training=Training(batch_size=24, patience=None))
    roomy.run_epoch()
    needed = torch.cuda.max_memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    del roomy
    torch.cuda.empty_cache()
    left = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((left + 0.6 * (needed - left)) / total)
    try:
        tight = trial(encoder, data, device="cuda", training=Training(batch_size=24, patience=None))
        point = tight.run_epoch()
        assert point["micro_batch"] < 24 and math.isfinite(point["train_loss"])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


# ---- the true size ----


def last_images(data, training: int):
    """Without all but the last training images."""
    kept_N = np.concatenate([data.training_N()[-training:], data.judged_N()])
    by_row = ("rows_N", "targets_NC", "patients_N", "fold_N", "threshold_fold_N")
    return dataclasses.replace(data, **{name: getattr(data, name)[kept_N] for name in by_row})


@pytest.mark.slow
def test_a_vit_b_16_of_biomedclips_construction_takes_two_steps(tmp_path, make_data, monkeypatch):
    from tests.vlm import miniature_biomedclip

    vision = {"timm_model_name": "vit_base_patch16_224", "image_size": 224}
    config = miniature_biomedclip.MODEL_CONFIG
    config = config | {"embed_dim": 512, "vision_cfg": config["vision_cfg"] | vision}
    monkeypatch.setattr(miniature_biomedclip, "MODEL_CONFIG", config)
    folder = miniature_biomedclip.build_miniature_biomedclip(tmp_path / "vit_b_16")
    encoder = load_encoder(f"local-dir:{folder}", device="cpu")
    data = last_images(make_data(224), training=8)
    tuned = trial(encoder, data, training=Training(batch_size=4, patience=None), **BUSY)
    assert tuned.trained_parameters > 86e6
    point = tuned.run_epoch()
    assert math.isfinite(point["train_loss"]) and math.isfinite(point["val_loss"])
    assert tuned.steps.an_epoch == 2
    tuned.save_checkpoint(tmp_path)
    again = trial(encoder, data, training=Training(batch_size=4, patience=None), **BUSY)
    load_checkpoint(tmp_path, again.state, again.identity)
    assert again.state.epoch == 1


def test_softmax_trains_a_tower_on_multiclass_labels(vit, data):
    one_each_NC = data.targets_NC.copy()
    one_each_NC[np.isnan(one_each_NC)] = 0
    one_each_NC = np.eye(3, dtype=np.float32)[one_each_NC.argmax(1)]
    one_each_NC[5] = np.nan
    classes = dataclasses.replace(data, targets_NC=one_each_NC, multiclass=True)
    some_trial = trial(vit, classes, loss="softmax", pos_weight_power=0.5, micro_batch=3)
    points = [some_trial.run_epoch() for _ in range(4)]
    assert points[-1]["train_loss"] < points[0]["train_loss"]
    record = some_trial.record()
    assert record.rule().multiclass and set(record.thresholds) == {"fixed", "per_label", "shrunk"}
    logits_NC = torch.tensor(some_trial.state.best.logits_NC)
    truth_N = torch.tensor(one_each_NC[classes.judged_N()]).argmax(1)
    kept = record.curve[record.epoch - 1]["val_loss"]
    assert kept == pytest.approx(torch.nn.functional.cross_entropy(logits_NC, truth_N).item() / 3, rel=1e-4)
