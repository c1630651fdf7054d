"""From the stored values of a gray DICOM image to gray levels: the transformations of DICOM PS3.3 C.11.

Everything is computed for each of the values that a pixel may have, 256 or 65,536, and looked up.

Shape legend: V stored values, in the order of their bits as an unsigned number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, apply_voi

from cohort.errors import InputError


def gray_levels(ds: Dataset, dtype: np.dtype, voi: str, name: str) -> np.ndarray:
    """The gray level of each stored value: uint8 (V,) where the file or `voi` names a window, or the values
    have at most 8 bits, otherwise uint16 (V,) of all values from 0 to the full scale of their bits.

    In this order: rescale or modality LUT; VOI LUT or window; MONOCHROME1 inverted; padding black.

    Args:
        ds: the image's attributes; those of functional groups are made its own.
        dtype: of its stored values, an integer of 8 or 16 bits.
        voi: the window to apply, `NAME` or `CENTER,WIDTH` in rescaled units; "" for the file's first.
        name: for messages.

    Raises:
        InputError: the file has no window of that name, or a rescale that is not a number.
    """
    _adopt_functional_groups(ds)
    stored_V = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype)
    rescaled_V = np.asarray(apply_modality_lut(stored_V, ds), dtype=np.float64)
    if not np.isfinite(rescaled_V).all():
        raise InputError(f"{name}: unreadable image (its rescale slope or intercept is not a number)")
    shown_V = _in_window(rescaled_V, ds, voi, name)
    if shown_V is None:
        levels_V = _full_scale(ds, stored_V, rescaled_V)
    else:
        levels_V = np.floor(shown_V * 255 + 0.5).astype(np.uint8)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        white = 255 if levels_V.dtype == np.uint8 else 2 ** _bits(ds) - 1
        levels_V = (white - levels_V).astype(levels_V.dtype)
    levels_V[_is_padding(ds, stored_V)] = 0
    return levels_V


def _in_window(rescaled_V: np.ndarray, ds: Dataset, voi: str, name: str) -> np.ndarray | None:
    """Shares of white, 0 to 1, (V,); None where the file has no window and none is given."""
    if numbers := center_and_width(voi):
        return _windowed(rescaled_V, *numbers, _function(ds))
    windows = {"lut": list(_luts(ds)), "window": list(_windows(ds))}
    if voi:
        wanted = voi.strip().lower()
        windows = {kind: [one for one in ones if one[0].lower() == wanted] for kind, ones in windows.items()}
        if not any(windows.values()):
            raise InputError(
                f"{name}: unreadable image (it has no window {voi!r}; give voi:CENTER,WIDTH, or leave "
                "--intensity out for the first window of each file)"
            )
    if windows["lut"]:
        _, index, bits = windows["lut"][0]
        shown_V = apply_voi(np.rint(rescaled_V).astype(np.int64), ds, index)
        return np.clip(shown_V / (2**bits - 1), 0, 1)
    if windows["window"]:
        _, center, width = windows["window"][0]
        return _windowed(rescaled_V, center, width, _function(ds))
    return None


def center_and_width(voi: str) -> tuple[float, float] | None:
    """The two numbers in `CENTER,WIDTH`; None where a window is named instead, or none given."""
    try:
        center, width = (float(part) for part in voi.split(","))
    except ValueError:
        return None
    return (center, width) if math.isfinite(center) and math.isfinite(width) and width > 0 else None


def _windowed(rescaled_V: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1 to C.11.2.1.3.2, for a range from 0 to 1."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (rescaled_V - center) / width, -700, 700)))
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1
    if width <= 0:
        return (rescaled_V > center).astype(np.float64)
    return np.clip((rescaled_V - center) / width + 0.5, 0, 1)


def _function(ds: Dataset) -> str:
    return str(ds.get("VOILUTFunction") or "LINEAR").strip().upper()


def _luts(ds: Dataset) -> Iterator[tuple[str, int, int]]:
    """Explanation, place and bits of each VOI LUT."""
    for index, item in enumerate(ds.get("VOILUTSequence") or ()):
        bits = int(item.LUTDescriptor[2])
        if not 1 <= bits <= 16:
            raise ValueError(f"a VOI LUT of {bits} bits")
        yield str(item.get("LUTExplanation") or ""), index, bits


def _windows(ds: Dataset) -> Iterator[tuple[str, float, float]]:
    """Explanation, center and width of each window that has a width; exporters write 0 for none."""
    centers, widths, names = (
        _several(ds.get(keyword))
        for keyword in ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
    )
    names += [""] * len(centers)
    for center, width, name in zip(centers, widths, names, strict=False):
        if math.isfinite(float(center)) and math.isfinite(float(width)) and float(width) >= 1:
            yield str(name), float(center), float(width)


def _full_scale(ds: Dataset, stored_V: np.ndarray, rescaled_V: np.ndarray) -> np.ndarray:
    """All values from the lowest to the highest that the bits allow, from 0 up; uint8 up to 8 bits."""
    bits = _bits(ds)
    if "ModalityLUTSequence" in ds:
        levels_V = rescaled_V
    else:
        signed = stored_V.dtype.kind == "i"
        levels_V = stored_V.astype(np.int64) + (2 ** (bits - 1) if signed else 0)
        if float(ds.get("RescaleSlope") or 1) < 0:
            levels_V = 2**bits - 1 - levels_V
    levels_V = np.clip(levels_V, 0, 2**bits - 1).astype(np.uint16)
    if bits > 8:
        return levels_V
    white = 2**bits - 1
    return ((levels_V.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _bits(ds: Dataset) -> int:
    """Of the values before the window."""
    if "ModalityLUTSequence" in ds:
        return min(16, max(1, int(ds.ModalityLUTSequence[0].LUTDescriptor[2])))
    return int(ds.BitsStored)


def _is_padding(ds: Dataset, stored_V: np.ndarray) -> np.ndarray:
    """bool (V,)."""
    first = ds.get("PixelPaddingValue")
    if not isinstance(first, int):
        return np.zeros(len(stored_V), dtype=bool)
    last = ds.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    return (stored_V >= low) & (stored_V <= high)


_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": (
        *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"),
        "VOILUTFunction",
    ),
}


def _adopt_functional_groups(ds: Dataset) -> None:
    """An enhanced image says in functional groups how the values of its frame are shown."""
    for group in _GROUPS:
        for item in (ds.get(group) or ())[:1]:
            for macro, keywords in _MACROS.items():
                for said in (item.get(macro) or ())[:1]:
                    for keyword in keywords:
                        if keyword in said and keyword not in ds:
                            setattr(ds, keyword, said[keyword].value)


def _several(value: object) -> list:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list) else [value]
