"""Named arrays and a JSON value as the bytes of one safetensors file, with a checksum over both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save


def pack(arrays: Mapping[str, np.ndarray], described: Any) -> bytes:
    """Serialise them; `unpack` is the inverse. `described` is anything that JSON can say."""
    text = json.dumps(described)
    arrays = dict(arrays) or {"empty": np.zeros(1, np.float32)}  # safetensors wants at least one
    # One entry: of several, safetensors writes the order at random, and equal studies leave equal files.
    return save(arrays, metadata={"packed": json.dumps([_checksum(arrays, text), text])})


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], Any]:
    """Read what `pack` wrote; ValueError, in one line, for anything but all of it, unchanged."""
    try:
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        checksum, text = json.loads(header["__metadata__"]["packed"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    if checksum != _checksum(arrays, text):
        raise ValueError("its content does not match its checksum")
    return arrays, json.loads(text)


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """sha256 over names, types, shapes and contents."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
