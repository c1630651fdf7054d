"""What this machine has of what a study needs, a check a line."""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cohort.version import VERSION
from study.credentials import masked

LIBRARIES = (
    *("torch", "torchvision", "open_clip_torch", "timm", "numpy", "pandas", "scipy"),
    *("ray", "optuna", "mlflow", "pillow", "pydicom", "imagecodecs"),
)
SEVERITIES = ("ok", "warning", "error")
_GB = 10**9
LITTLE_ROOM, NO_ROOM = 10 * _GB, 1 * _GB
"""Bytes of a disk below which a study may, or will, not end."""
HUB_SECONDS = 4.0


class Check(NamedTuple):
    """What was found, in a line."""

    severity: str
    """One of `SEVERITIES`: as it should be; a study runs, with what the line says; something has to be
    mended."""
    subject: str
    said: str


def examine(cache: Path, uri: str) -> Iterator[Check]:
    """Every check of this machine, each when it is done; none raises.

    Args:
        cache: folder of embeddings and decoded images.
        uri: tracking URI of MLflow.
    """
    for subject, check in (
        ("versions", _versions),
        ("devices", _devices),
        ("Ray", _ray),
        ("MLflow", lambda: _mlflow(uri)),
        ("cache", lambda: _cache(cache)),
        ("disk", lambda: _disk(cache)),
        ("decoders", _decoders),
        ("hub", _hub),
    ):
        yield _checked(subject, check)


def _checked(subject: str, check: Callable[[], tuple[str, str]]) -> Check:
    try:
        severity, said = check()
    except Exception as error:  # whatever a library raises where it does not work is what this is to find
        severity, said = "error", f"{type(error).__name__}: {error}"
    return Check(severity, subject, masked(" ".join(said.split()))[:300])


def _versions() -> tuple[str, str]:
    found, absent = [f"radtune {VERSION}", f"Python {platform.python_version()}"], []
    for library in LIBRARIES:
        try:
            found.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(library)
    if absent:
        return "error", f"not installed: {', '.join(absent)}; install radtune anew"
    return "ok", ", ".join(found)


def _devices() -> tuple[str, str]:
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    named = [f"{gpu.name} ({gpu.total_memory / _GB:.0f} GB)" for gpu in gpus]
    if torch.backends.mps.is_available():
        named.append("Apple GPU")
    return "ok", f"{cpus} CPU cores, {', '.join(named) or 'no GPU'}"


def _ray() -> tuple[str, str]:
    from study.ray_place import ray_place

    place = Path(ray_place() or tempfile.gettempdir())
    address = os.environ.get("RAY_ADDRESS")
    started = f"joins {address}" if address else "a study starts its own"
    free = shutil.disk_usage(place if place.exists() else place.parent).free
    said = f"{started}; its files go to {place} ({free / _GB:.0f} GB free)"
    return ("warning" if free < LITTLE_ROOM else "ok"), said


def _mlflow(uri: str) -> tuple[str, str]:
    from study.mlflow_store import open_store
    from study.sqlite_uri import sqlite_file

    file = sqlite_file(uri)
    if file and not Path(file).exists():
        return "ok", f"{uri}: not there yet, the first study makes it"
    experiments = open_store(uri).search_experiments(max_results=1000)
    return "ok", f"{uri}: {len(experiments)} experiments"


def _cache(cache: Path) -> tuple[str, str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    models = _size(Path(HF_HUB_CACHE)) / _GB
    return "ok", f"{cache} {_size(cache) / _GB:.1f} GB, of downloaded models {models:.1f} GB"


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; 0 where it is not there. Links count as nothing."""
    files = (Path(top, name) for top, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in files if path.exists() and not path.is_symlink())


def _disk(cache: Path) -> tuple[str, str]:
    free, said = [], []
    for place in dict.fromkeys((Path.cwd(), cache.absolute(), Path(tempfile.gettempdir()))):
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free.append(shutil.disk_usage(there).free)
        said.append(f"{place} {free[-1] / _GB:.0f} GB free")
    severity = "error" if min(free) < NO_ROOM else "warning" if min(free) < LITTLE_ROOM else "ok"
    return severity, ", ".join(said)


def _decoders() -> tuple[str, str]:
    """Each format is written and read again, or its codec asked for."""
    import imagecodecs
    import numpy as np
    from PIL import Image

    from cohort.decoding import decode

    absent = []
    for form in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"):
        try:
            buffer = io.BytesIO()
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(buffer, form)
            decode(buffer.getvalue(), form)
        except Exception:  # as in `_checked`
            absent.append(form)
    codecs = {"JPEG": "JPEG8", "JPEG-LS": "JPEGLS", "JPEG 2000": "JPEG2K", "RLE": "DICOMRLE"}
    absent += [f"DICOM {name}" for name, codec in codecs.items() if not getattr(imagecodecs, codec).available]
    if absent:
        return "error", f"missing: {', '.join(absent)}; install Pillow and imagecodecs anew"
    return "ok", f"PNG, JPEG, TIFF, BMP, GIF, WebP; DICOM uncompressed and {', '.join(codecs)}"


def _hub() -> tuple[str, str]:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    remedy = "encoders must be in the cache of downloaded models, or be named by a path"
    if HF_HUB_OFFLINE:
        return "warning", f"HF_HUB_OFFLINE is set: {remedy}"
    try:
        request = urllib.request.Request(ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=HUB_SECONDS).close()
    except OSError as error:
        return "warning", f"{ENDPOINT} does not answer ({getattr(error, 'reason', error)}): {remedy}"
    return "ok", f"{ENDPOINT} answers"
