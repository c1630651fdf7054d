"""What a fine-tuning trial leaves on disk: to go on from, and to predict with.

Shape legend: B images of a batch, H height, W width, C channels, D features.
"""

import dataclasses
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from cohort.errors import InputError
from tests.trainables.fine_tuning import BUSY, LORA, best, trial, weights
from tests.trainables.towers import KINDS
from trainables import fine_tune_judging
from trainables.checkpoints import CorruptCheckpoint
from trainables.fine_tune_config import Training
from trainables.fine_tune_state import CHECKPOINT, checkpoint_bytes, load_best, load_checkpoint
from vlm.encoders import load_encoder

TIMES = ("seconds", "images_per_second", "data_wait_share", "peak_device_memory_mb")


def resume(some_trial, folder) -> None:
    load_checkpoint(folder, some_trial.state, some_trial.identity)


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
    resume(second, tmp_path)
    assert second.state.epoch == 2
    while not second.finished:
        second.run_epoch()

    expected, got = weights(through), weights(second)
    assert set(expected) == set(got)
    for name, tensor in expected.items():
        assert torch.equal(tensor, got[name]), name

    def timeless(progress):
        curve = [{k: v for k, v in point.items() if k not in TIMES} for point in progress["curve"]]
        return {k: v for k, v in progress.items() if k != "seconds"} | {"curve": curve}

    assert timeless(second.state.progress()) == timeless(through.state.progress())
    assert second.record().thresholds == through.record().thresholds
    tuned, expected = (
        best(one, vit, tmp_path / name)[0] for name, one in zip("ab", (second, through), strict=True)
    )
    assert tuned.fingerprint == expected.fingerprint


def test_a_resumed_trial_keeps_the_best_epoch_before_it(vit, data, tmp_path, monkeypatch):
    values = iter([0.6, 0.5])
    monkeypatch.setattr(fine_tune_judging, "objective", lambda *_: np.array([next(values, 0.1)]))
    first = trial(vit, data)
    first.run_epoch(), first.run_epoch()
    first.save_checkpoint(tmp_path)
    second = trial(vit, data)
    resume(second, tmp_path)
    assert second.record().epoch == 1
    assert np.array_equal(second.best_head().weight_DC, first.best_head().weight_DC)
    tuned, expected = (
        best(one, vit, tmp_path / name)[0] for name, one in zip("ab", (second, first), strict=True)
    )
    assert tuned.fingerprint == expected.fingerprint
    second.run_epoch()
    assert second.record().epoch == 1


def test_the_scaler_is_resumed(vit, data):
    first, second = (trial(vit, data, precision="fp16") for _ in range(2))
    first.state.scaler.load_state_dict(first.state.scaler.state_dict() | {"scale": 128.0})
    first.run_epoch()
    second.state.load(first.state.tensors(), first.state.progress())
    resumed, kept = second.state.scaler.state_dict(), first.state.scaler.state_dict()
    assert resumed == kept and kept["scale"] == 128


def test_a_resumed_trial_shares_no_memory_with_the_one_before_it(vit, data):
    first, second = trial(vit, data, ema_decay=0.9), trial(vit, data, ema_decay=0.9)
    first.run_epoch()
    kept = weights(first)
    second.state.load(first.state.tensors(), first.state.progress())
    second.run_epoch()
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, kept[name]), name
    assert first.state.epoch == len(first.state.curve) == 1
    json.dumps(first.state.progress())


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
        resume(again, tmp_path / "2")
    folder, lines = again.load_newest([tmp_path / "2", tmp_path / "1"])
    assert folder == tmp_path / "1" and again.state.epoch == 1
    assert len(lines) == 1 and str(path) in lines[0] and "\n" not in lines[0]
    assert again.load_newest([]) == (None, [])


def test_a_checkpoint_of_something_else_is_refused_in_one_line(encoders, data, tmp_path):
    vit = encoders["vit"]
    tuned = trial(vit, data)
    tuned.run_epoch()
    tuned.save_checkpoint(tmp_path)
    other = vit.with_backbone(vit.backbone, vit.tower)
    other = dataclasses.replace(other, fingerprint="0" * 64)
    flipped_NC = data.targets_NC.copy()
    flipped_NC[0, 0] = 1 - flipped_NC[0, 0]
    for again, message in [
        (trial(other, data), "trained on another encoder"),
        (trial(vit, dataclasses.replace(data, rows_N=np.roll(data.rows_N, 1))), "on other images"),
        (trial(vit, dataclasses.replace(data, targets_NC=flipped_NC)), "other values of the labels"),
        (trial(vit, data.resplit(np.arange(40) % 3 == 0, seed=0)), "another split"),
        (trial(vit, dataclasses.replace(data, labels=("A", "B", "C"))), "labels must be"),
        (trial(vit, data, weight_decay=0.5), "params must be"),
        (trial(vit, data, seed=1), "seed must be 1"),
        (trial(vit, data, training=Training(batch_size=4)), "training must be"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            resume(again, tmp_path)
        assert "\n" not in str(error.value)
        with pytest.raises(InputError):
            again.load_newest([tmp_path])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_trial_resumed_on_a_gpu_goes_on_as_it_would_have(vit, data, tmp_path, precision):
    whole = trial(vit, data, **LORA, **BUSY, precision=precision, device="cuda")
    whole.run_epoch()
    whole.save_checkpoint(tmp_path)
    resumed = trial(vit, data, **LORA, **BUSY, precision=precision, device="cuda")
    resume(resumed, tmp_path)
    for _ in range(2):
        expected, point = whole.run_epoch(), resumed.run_epoch()
        assert point["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert point["objective"] == pytest.approx(expected["objective"], rel=1e-5)


# ---- export ----


@pytest.mark.parametrize("kind", KINDS)
def test_the_tuned_tower_loads_in_plain_open_clip_with_equal_features(encoders, make_data, tmp_path, kind):
    encoder = encoders[kind]
    data = make_data(encoder.geometry.size)
    lora = LORA | ({"lora_targets": "convolutions"} if kind == "resnet" else {})
    tuned = trial(encoder, data, **lora)
    tuned.run_epoch()
    tuned_encoder, _ = best(tuned, encoder, tmp_path / "best")
    assert tuned_encoder.fingerprint != encoder.fingerprint
    tuned_encoder.save(tmp_path)
    if kind == "timm":  # plain open_clip asks the hub for a text tower that is not named by a path
        config = json.loads((tmp_path / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"] |= {"hf_model_name": str(tmp_path), "hf_model_pretrained": False}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    image_HWC = data.images_NHWC[data.rows_N[data.judged_N()[0]]]
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
    images_BHWC = data.images_NHWC[:3]
    with torch.no_grad():  # one epoch: the best weights are the current ones
        expected_BD = tuned.model.tower.eval()(torch.tensor(images_BHWC))
    torch.testing.assert_close(encoder.image_features(images_BHWC), expected_BD, atol=1e-5, rtol=1e-5)
    assert encoder.fingerprint != vit.fingerprint
    assert all(np.array_equal(a, tuned.best_head().tensors()[name]) for name, a in head.tensors().items())
    with pytest.raises(InputError, match="trained on another encoder"):
        load_best(tmp_path, dataclasses.replace(vit, fingerprint="0" * 64))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptCheckpoint):
        load_best(tmp_path, vit)
