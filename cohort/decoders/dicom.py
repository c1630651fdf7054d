"""DICOM images, by pydicom.

Only attributes that say how pixels are stored and shown are read: nothing of a person reaches a message.

Shape legend: H height, W width, V stored values.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
import pydicom
from pydicom import Dataset, config, uid
from pydicom.pixels import apply_color_lut

from cohort.decoders import dicom_codecs
from cohort.decoders.decoded import (
    BURNED_IN,
    HIGH_BYTE,
    Decoded,
    check_size_of_image,
    gray_if_colourless,
    unreadable,
)
from cohort.decoders.dicom_gray import gray_levels
from cohort.errors import InputError
from cohort.limits import LARGEST_IMAGE_FILE

# Values of a stranger's file may be wrong in many ways; pydicom would warn of them, and quote them.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"pydicom\.")

_TAGS = [
    "SOPClassUID",
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "BurnedInAnnotation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(
        f"{segmented}{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
]
_NEEDED = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
)
_ROWS_AT_ONCE = 2**21
"""Pixels that are looked up at a time: numpy makes 8 bytes of each on the way."""


def size(data: bytes) -> int:
    """How many pixels the header says; InputError or AttributeError where it cannot be read."""
    ds = read_header(data, ["Rows", "Columns"], "")
    return int(ds.Rows) * int(ds.Columns)


def read_header(data: bytes, keywords: Sequence[str], name: str) -> Dataset:
    """Those attributes of a file, or of its beginning, that stand before the pixels; InputError, with `name`,
    where it cannot be read."""
    try:
        return pydicom.dcmread(
            io.BytesIO(inflated(data)), force=True, stop_before_pixels=True, specific_tags=list(keywords)
        )
    except Exception as error:  # as in `decode`
        raise unreadable(name, f"DICOM: {type(error).__name__}") from error


def decode(data: bytes, name: str, voi: str = "") -> Decoded:
    """The pixels as a viewer shows them: gray by `cohort.decoders.dicom_gray.gray_levels`, colour as RGB,
    palettes looked up; overlays, shutters and profiles are not applied.

    Raises:
        InputError: no single image of at most 16 bits that can be decoded within the limits, or none with the
            window `voi`.
    """
    try:
        ds = pydicom.dcmread(io.BytesIO(inflated(data)), force=True, specific_tags=_TAGS)
        _check(ds, name)
        syntax = _transfer_syntax(ds)
        try:
            decoder = dicom_codecs.decoder_of(syntax)
        except NotImplementedError:
            raise unreadable(
                name, f"compressed as {syntax.name}, which is not readable; decompress it with gdcmconv --raw"
            ) from None
        plugin = dicom_codecs.PLUGIN if syntax.is_encapsulated else ""
        pixels, changed = decoder.as_array(ds, index=0, decoding_plugin=plugin)
        levels = _levels(ds, pixels, changed, voi, name)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of a damaged file, pydicom lets through whatever its parsers stumble over
        said = str(error).rpartition(f"{dicom_codecs.PLUGIN}: ")[2]  # behind pydicom's words on its plugins
        raise unreadable(name, f"DICOM: {said or type(error).__name__}") from error
    found = {
        BURNED_IN: str(ds.get("BurnedInAnnotation") or "").strip().upper() == "YES",
        HIGH_BYTE: pixels.ndim == 3 and pixels.dtype.itemsize > 1,
    }
    return Decoded(levels, tuple(note for note, applies in found.items() if applies))


def inflated(data: bytes) -> bytes:
    """A file of the deflated transfer syntax unpacked, within `LARGEST_IMAGE_FILE`, which pydicom would do
    without limit; any other as it is. ValueError where it is larger, or where pydicom might find the syntax
    elsewhere than here."""
    deflated = str(uid.DeflatedExplicitVRLittleEndian).encode()
    start = data.find(deflated)
    if start < 0:
        return data
    body = 144 + int.from_bytes(data[140:144], "little")
    if data[128:132] != b"DICM" or data[132:140] != b"\2\0\0\0UL\4\0" or start >= body:
        raise ValueError("deflated, with a header that is not in order; write it anew")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked = unpacker.decompress(data[body:], LARGEST_IMAGE_FILE)
    if unpacker.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {LARGEST_IMAGE_FILE:,} bytes")
    if deflated in unpacked:
        raise ValueError("deflated more than once; write it anew")
    plain = str(uid.ExplicitVRLittleEndian).encode().ljust(len(deflated), b"\0")
    return data[:body].replace(deflated, plain) + unpacked


def _transfer_syntax(ds: Dataset) -> uid.UID:
    """As the file's header says; without a header, as pydicom has read it."""
    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax:
        return syntax
    implicit, little = ds.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _check(ds: Dataset, name: str) -> None:
    """InputError for what is no single image of integers up to 16 bits within the limits."""
    if ds.file_meta.get("MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
        raise unreadable(name, "a DICOMDIR, a list of other files; give the folder of the images themselves")
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        raise unreadable(name, "a DICOM of floating-point values; convert it to 16 bits")
    if "PixelData" not in ds:
        kind = ds.get("SOPClassUID")
        raise unreadable(name, f"a DICOM without an image{f' ({kind.name})' if kind else ''}; leave it out")
    if absent := [keyword for keyword in _NEEDED if ds.get(keyword) in (None, "")]:
        raise unreadable(name, f"a DICOM without {', '.join(absent)}; get it again")
    check_size_of_image(int(ds.Columns), int(ds.Rows), name)
    if (frames := int(ds.get("NumberOfFrames") or 1)) != 1:
        raise unreadable(name, f"a DICOM of {frames} frames; write the frames wanted to files of their own")
    bits, samples = int(ds.BitsAllocated), int(ds.get("SamplesPerPixel") or 1)
    if bits not in (1, 8, 16) or not 1 <= int(ds.BitsStored) <= bits:
        raise unreadable(name, f"a DICOM of {bits} bits per value; convert it to 16")
    if samples not in (1, 3):
        raise unreadable(name, f"a DICOM of {samples} values per pixel; convert it to gray or RGB")
    if (high := int(ds.get("HighBit", ds.BitsStored - 1))) != ds.BitsStored - 1:
        raise unreadable(
            name, f"a DICOM whose {ds.BitsStored} bits end at bit {high}; write it anew with dcmtk"
        )


def _levels(ds: Dataset, pixels: np.ndarray, changed: dict, voi: str, name: str) -> np.ndarray:
    """uint8 or uint16 (H, W), or uint8 (H, W, 3), of decoded values."""
    if pixels.ndim == 3:
        if changed["photometric_interpretation"] != "RGB":
            raise unreadable(name, f"a DICOM in {ds.PhotometricInterpretation}; convert it to RGB")
        return _upper_8(pixels, int(ds.BitsStored))
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        if any("Segmented" in element.keyword for element in ds):  # it may unfold without end
            raise unreadable(name, "a DICOM with a segmented palette; convert it to RGB")
        colours_HWC = apply_color_lut(pixels, ds)
        return gray_if_colourless(_upper_8(colours_HWC, 8 * colours_HWC.dtype.itemsize))
    if ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise unreadable(name, f"a DICOM in {ds.PhotometricInterpretation}; convert it to gray or RGB")
    levels_V = gray_levels(ds, pixels.dtype, voi, name)
    stored_HW = pixels.view(f"u{pixels.dtype.itemsize}")
    levels_HW = np.empty(pixels.shape, levels_V.dtype)
    rows = max(1, _ROWS_AT_ONCE // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        np.take(levels_V, stored_HW[top : top + rows], out=levels_HW[top : top + rows], mode="clip")
    return levels_HW


def _upper_8(image_HWC: np.ndarray, bits: int) -> np.ndarray:
    if image_HWC.dtype == np.uint8 and bits == 8:
        return image_HWC
    return (image_HWC >> (bits - 8)).astype(np.uint8) if bits >= 8 else image_HWC << (8 - bits)
