"""Named tensors in safetensors files, which appear whole or not at all; reading one runs nothing in it.

A checksum recognises damage (a torn write, a bad disk), not intent.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cohort.files import replacing_file

_CHECKSUM = "checksum"


class CorruptFile(Exception):
    """A file of tensors that is damaged, half there or not there; the message is the reason, in one line."""


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor | np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    checksum: bool = False,
) -> None:
    """Write `path`: it holds all of it or what it held before, and may be read by whom its folder may.

    Args:
        tensors: of any dtype and device.
        metadata: kept beside them.
        checksum: keep one over names, contents and metadata, for `read_tensors` to verify.

    Raises:
        OSError: there is no room for it.
    """
    plain = {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = dict(metadata or {})
    if checksum:
        metadata[_CHECKSUM] = _checksum(plain, metadata)
    with replacing_file(path) as temporary:
        try:
            save_file(plain, temporary, metadata=metadata or None)
        except SafetensorError as error:
            if not (number := re.search(r"\(os error (\d+)\)", str(error))):
                raise
            # The system's own error, a full disk say, is only in the words of the library's.
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        # safetensors leaves a file that only its owner can read, on a cluster's shared disk too.
        temporary.chmod(temporary.parent.stat().st_mode & 0o666)


def read_tensors(path: Path, *, checksum: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the CPU, and the metadata that `write_tensors` was given.

    With `checksum`, only a file that was written with one is accepted.

    Raises:
        CorruptFile: anything but a whole file of tensors, or a content that its checksum does not match.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(" ".join(str(error).split())) from None
    written = metadata.pop(_CHECKSUM, None)
    if checksum and written != _checksum(tensors, metadata):
        raise CorruptFile("its content does not match its checksum")
    return tensors, metadata


def check_pickle(path: Path) -> None:
    """CorruptFile where reading what torch pickled into a file would take more memory than the file holds, as
    nothing does that torch writes of tensors. OSError where it cannot be read."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):  # since PyTorch 1.6
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError) as error:
            raise CorruptFile(" ".join(str(error).split())) from None
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > size:
            raise CorruptFile("it unpacks to more than its size")
    if size:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # torch lets a pickle call it, and it fills as many bytes as it is asked for.
            if content.find(b"bytearray") >= 0:
                raise CorruptFile("it asks for a bytearray, which is no tensor")


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """CRC-32, eight hexadecimal digits."""
    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), crc)
    return f"{crc:08x}"
