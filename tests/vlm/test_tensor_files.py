import numpy as np
import torch
from safetensors import safe_open

from vlm.tensor_files import write_tensors


def test_tensors_and_arrays_come_back_with_their_metadata(tmp_path):
    path = tmp_path / "weights.safetensors"
    strided = torch.arange(6.0).reshape(2, 3).T
    write_tensors(path, {"a": strided, "b": np.array([0.5, 2.5])}, {"made": "here"})
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("a"), strided)
        assert file.get_tensor("b").dtype == torch.float64 and file.get_tensor("b").tolist() == [0.5, 2.5]
        assert file.metadata() == {"made": "here"}


def test_whoever_may_read_the_folder_may_read_the_file(tmp_path):
    for mode, expected in ((0o755, 0o644), (0o700, 0o600), (0o775, 0o664)):
        folder = tmp_path / oct(mode)
        folder.mkdir()
        folder.chmod(mode)
        write_tensors(folder / "weights.safetensors", {"a": np.zeros(1)})
        assert (folder / "weights.safetensors").stat().st_mode & 0o777 == expected
