import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from vlm.tensor_files import CorruptFile, read_tensors, write_tensors

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    "b": np.array([0.5, 2.5]),
    "scalar": torch.tensor(7, dtype=torch.int64),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "none": torch.zeros(0, 4),
}


@pytest.mark.parametrize("checksum", [False, True])
def test_tensors_and_arrays_come_back_with_their_metadata(tmp_path, checksum):
    path = tmp_path / "new folder" / "weights.safetensors"
    write_tensors(path, TENSORS, {"made": "here"}, checksum=checksum)
    tensors, metadata = read_tensors(path, checksum=checksum)
    assert metadata == {"made": "here"} and set(tensors) == set(TENSORS)
    for name, given in TENSORS.items():
        given = torch.as_tensor(given)
        assert tensors[name].dtype == given.dtype and torch.equal(tensors[name], given)
    write_tensors(path, {"a": torch.zeros(1)}, checksum=checksum)
    assert read_tensors(path, checksum=checksum)[1] == {}
    assert list(path.parent.iterdir()) == [path]


def test_any_program_that_knows_safetensors_reads_them(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, TENSORS, {"made": "here"})
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("a"), TENSORS["a"])
        assert file.get_tensor("b").dtype == torch.float64 and file.get_tensor("b").tolist() == [0.5, 2.5]
        assert file.metadata() == {"made": "here"}


def test_whoever_may_read_the_folder_may_read_the_file(tmp_path):
    for mode, expected in ((0o755, 0o644), (0o700, 0o600), (0o775, 0o664)):
        folder = tmp_path / oct(mode)
        folder.mkdir()
        folder.chmod(mode)
        write_tensors(folder / "weights.safetensors", {"a": np.zeros(1)})
        assert (folder / "weights.safetensors").stat().st_mode & 0o777 == expected


def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.ones(2)})

    def half(tensors, temporary, metadata):
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("vlm.tensor_files.save_file", half)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"a": torch.zeros(2)})
    assert read_tensors(path)[0]["a"].tolist() == [1, 1] and list(tmp_path.iterdir()) == [path]


def test_every_flipped_bit_is_noticed_where_there_is_a_checksum(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.arange(3.0)}, {"made": "here"}, checksum=True)
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            tensors, metadata = read_tensors(path, checksum=True)
        except CorruptFile as error:
            assert "\n" not in str(error)
        else:  # between the values of the header, say
            assert tensors["a"].tolist() == [0, 1, 2] and metadata == {"made": "here"}, i


@pytest.mark.parametrize("harm", ["cut", "empty", "missing", "folder", "no checksum"])
def test_anything_but_a_whole_file_is_refused_in_one_line(tmp_path, harm):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.arange(3.0)}, {"made": "here"}, checksum=harm != "no checksum")
    if harm in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[:-1] if harm == "cut" else b"")
    elif harm in ("missing", "folder"):
        path.unlink()
        if harm == "folder":
            path.mkdir()
    with pytest.raises(CorruptFile) as caught:
        read_tensors(path, checksum=True)
    assert str(caught.value) and "\n" not in str(caught.value)


def test_the_checksum_covers_the_metadata(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.arange(3.0)}, {"made": json.dumps({"at": 1})}, checksum=True)
    path.write_bytes(path.read_bytes().replace(rb"\"at\": 1", rb"\"at\": 2"))
    with pytest.raises(CorruptFile, match="its content does not match its checksum"):
        read_tensors(path, checksum=True)
    assert read_tensors(path)[1] == {"made": '{"at": 2}'}


def test_a_full_disk_is_the_systems_own_error(tiny_disk):
    path = tiny_disk(8192) / "weights.safetensors"
    with pytest.raises(OSError, match="No space left") as caught:
        write_tensors(path, {"a": torch.zeros(10_000)})
    assert caught.value.filename == str(path) and list(path.parent.iterdir()) == []
