"""Records on their way through a bank file."""

from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from cohort.errors import InputError
from tests.trainables.drawn_records import complete, draw_head, failed
from trainables.bank_files import pack_bank, unpack_bank
from trainables.packed import pack, unpack
from trainables.records import TrialRecord


def assert_equal(one: TrialRecord, other: TrialRecord) -> None:
    """To the last bit, whatever the field."""
    for field in fields(TrialRecord):
        if field.name not in ("arrays", "objective"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    np.testing.assert_array_equal(one.objective, other.objective)  # NaN where it failed
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        np.testing.assert_array_equal(array, other.arrays[name])


def test_a_bank_comes_back_from_its_file_bit_by_bit_and_in_its_order():
    bank = [complete(13), failed(4), complete(1, state="PRUNED"), complete(0, preset="paper")]
    again = unpack_bank(pack_bank(bank))
    assert len(again) == 4
    for before, after in zip(bank, again, strict=True):
        assert_equal(before, after)


def test_any_named_array_travels_not_only_the_heads():
    extra = {"second/weight_DC": np.arange(6, dtype=np.float16).reshape(2, 3), "rows": np.array([7])}
    record = complete(2)
    (again,) = unpack_bank(pack_bank([replace(record, arrays=record.arrays | extra)]))
    for name, array in extra.items():
        assert again.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays[name], array)
    assert again.head.weight_DC.shape == (1024, 3)


@pytest.mark.parametrize("bank", [[], [failed(1), failed(2)]], ids=["empty", "all failed"])
def test_a_bank_without_any_head_has_a_file_too(bank):
    again = unpack_bank(pack_bank(bank))
    assert [record.number for record in again] == [record.number for record in bank]
    assert all(record.head is None and record.arrays == {} for record in again)


def with_description(data: bytes, change) -> bytes:
    """The same file with its records described otherwise."""
    arrays, described = unpack(data)
    return pack(arrays, change(described))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:8] + b"[" + whole[9:],
        lambda whole: save(load(whole)),
        lambda whole: save(load(whole), metadata={"packed": "[{"}),
        lambda whole: flipped(whole, len(whole) - 3),
        lambda whole: flipped(whole, whole.index(b"macro_ap") + 3),
        lambda whole: with_description(whole, lambda records: [records[0] | {"state": "DONE"}]),
        lambda whole: with_description(whole, lambda records: [records[0] | {"colour": "red"}]),
        lambda whole: with_description(whole, lambda records: [{"number": 3}]),
        lambda whole: pack_bank([complete(arrays={"weight_DC": np.zeros((2, 3), np.float32)})]),
        lambda whole: pack_bank(
            [complete(arrays=draw_head().tensors() | {"bias_C": np.full(3, np.nan, np.float32)})]
        ),
    ],
    ids=[
        "nothing",
        "one byte short",
        "half",
        "no header",
        "no description",
        "no json",
        "a flipped bit of an array",
        "a flipped bit of the description",
        "unknown state",
        "unknown field",
        "missing field",
        "missing array",
        "array that no head can have",
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(harm):
    with pytest.raises(InputError) as raised:
        unpack_bank(harm(pack_bank([complete()])), name="runs/s/banks/bank-0001.safetensors")
    message = str(raised.value)
    assert message.startswith("runs/s/banks/bank-0001.safetensors: not a whole bank file (")
    assert message.endswith("); delete it and resume the study") and "\n" not in message
