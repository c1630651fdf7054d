import pytest
import torch

from cohort.errors import InputError
from vlm.precision import PRECISIONS, TRAINING_PRECISIONS, multiplies_in_bf16, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16"), (True, True, "bf16")],
)
def test_a_processor_needs_either_instruction_set(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision("auto", CPU) == resolve_precision("auto", CPU, training=True) == expected


@pytest.mark.parametrize(
    ("capability", "embedding", "training"),
    [((7, 0), "fp32", "fp16"), ((7, 5), "fp32", "fp16"), ((8, 0), "bf16", "bf16"), ((9, 0), "bf16", "bf16")],
)
def test_an_older_gpu_embeds_in_fp32_and_trains_in_fp16(monkeypatch, capability, embedding, training):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability
    )
    assert resolve_precision("auto", CUDA) == embedding
    assert resolve_precision("auto", CUDA, training=True) == training
    assert set(asked) == {CUDA}, "the device that is meant, not the current one"


def test_other_devices_compute_in_fp32():
    for training in (False, True):
        assert resolve_precision("auto", torch.device("mps"), training=training) == "fp32"


def test_a_named_precision_is_taken_at_its_word():
    for precision in PRECISIONS[1:]:
        assert resolve_precision(precision, CPU) == precision
    for precision in TRAINING_PRECISIONS[1:]:
        assert resolve_precision(precision, CPU, training=True) == precision


def test_an_unknown_precision_is_refused_and_fp16_without_a_scaler_too():
    with pytest.raises(InputError, match="precision must be one of auto, fp32, bf16, got 'fp16'"):
        resolve_precision("fp16", CPU)
    with pytest.raises(InputError, match="precision must be one of auto, fp32, bf16, fp16, got 'fp8'"):
        resolve_precision("fp8", CPU, training=True)


@pytest.mark.gpu
def test_the_rule_agrees_with_torchs_own_for_the_current_gpu():
    here = torch.device("cuda", torch.cuda.current_device())
    assert multiplies_in_bf16(here) == torch.cuda.is_bf16_supported(including_emulation=False)
