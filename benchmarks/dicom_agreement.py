"""How far this project's reading of DICOM files lies from highdicom's, for each transfer syntax.

    python -m benchmarks.dicom_agreement

Two sources: single images among pydicom's own test files, and images drawn here in every combination of
transfer syntax, photometric interpretation and bits, with a window and without. highdicom decodes with other
libraries (pylibjpeg's, GDCM, CharLS through pyjpegls, Pillow) and transforms in its own way. Printed is
the largest difference in gray levels of 8 bits, which are rounded here and not there. Slopes are 1: highdicom
divides a window's width by the slope before it takes 1 off, which the standard does after.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import pydicom
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.intensity import Intensity

SIZE = (61, 48)
LOSSLESS = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)
COMPRESSED = (
    *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
    *(uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000),
    *(uid.HTJ2KLossless, uid.HTJ2K, uid.RLELossless),
)


class Case(NamedTuple):
    """One DICOM file and what a row of the table says of it."""

    syntax: str
    photometric: str
    bits: int
    signed: bool
    data: bytes


def made(syntax: uid.UID, photometric: str, bits: int, signed: bool = False, window: bool = True) -> Case:
    """A file of a drawn image, smooth enough for lossy compression, with noise."""
    image = drawn(bits, signed, 3 if photometric in ("RGB", "YBR_FULL") else 1)
    ds = described(image, photometric, bits)
    if window:
        low, high = (int(x) for x in np.percentile(image, [10, 90]))
        ds.RescaleSlope, ds.RescaleIntercept = "1", "-100"
        ds.WindowCenter, ds.WindowWidth = [(low + high) / 2 - 100, 1.0], [max(2.0, high - low), 2.0]
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax in COMPRESSED:
        ds.PixelData = encapsulate([compressed(image, syntax, bits, ds)])
        ds["PixelData"].VR = "OB"
    else:
        ds.PixelData = image.tobytes()
        ds["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return Case(syntax.name, photometric, bits, signed, buffer.getvalue())


def drawn(bits: int, signed: bool, channels: int) -> np.ndarray:
    """(H, W) or (H, W, 3), int or uint of 8 or 16 bits, over the whole range of `bits`."""
    rows, columns = SIZE
    wave = np.add.outer(np.sin(np.arange(rows) / 9), np.cos(np.arange(columns) / 7))
    shown = np.stack([np.roll(wave, 5 * c, axis=0) for c in range(channels)], axis=-1)
    shown += np.random.default_rng(0).normal(0, 0.02, shown.shape)
    shown = (shown - shown.min()) / np.ptp(shown) * (2**bits - 1)
    kind = ("i" if signed else "u") + ("1" if bits <= 8 else "2")
    image = (np.rint(shown) - (2 ** (bits - 1) if signed else 0)).astype(kind)
    return image if channels == 3 else image[:, :, 0]


def described(image: np.ndarray, photometric: str, bits: int) -> Dataset:
    """A secondary capture without its pixels."""
    ds = Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3.1", "1.2.3.2", "OT"
    ds.PatientID = ds.PatientName = ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ""
    ds.Rows, ds.Columns = image.shape[:2]
    ds.SamplesPerPixel = 1 if image.ndim == 2 else 3
    if image.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = image.dtype.itemsize * 8, bits, bits - 1
    ds.PixelRepresentation = int(image.dtype.kind == "i")
    return ds


def compressed(image: np.ndarray, syntax: uid.UID, bits: int, ds: Dataset) -> bytes:
    """A codestream; JPEG is written for unsigned values."""
    if syntax == uid.RLELossless:
        return pydicom.pixels.get_encoder(syntax).encode(image, encoding_plugin="pydicom", **_options(ds))
    if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        level = 0 if syntax == uid.JPEGLSLossless else 2
        unsigned = image.view(f"u{image.dtype.itemsize}") & np.array(2**bits - 1, f"u{image.dtype.itemsize}")
        return imagecodecs.jpegls_encode(unsigned, level=level)
    if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        level = None if syntax == uid.JPEG2000Lossless else 60
        return imagecodecs.jpeg2k_encode(
            image, level=level, reversible=level is None, codecformat="J2K", bitspersample=bits, mct=False
        )
    if syntax in (uid.HTJ2KLossless, uid.HTJ2K):
        reversible = syntax == uid.HTJ2KLossless
        return imagecodecs.htj2k_encode(image, level=None if reversible else 1e-4, reversible=reversible)
    lossless = syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1)
    space = {} if image.ndim == 2 else {"colorspace": "RGB", "outcolorspace": "RGB"}
    return imagecodecs.jpeg8_encode(
        image, level=95, lossless=lossless, bitspersample=bits if image.dtype.itemsize == 2 else None, **space
    )


def _options(ds: Dataset) -> dict[str, object]:
    return {
        "rows": ds.Rows,
        "columns": ds.Columns,
        "samples_per_pixel": ds.SamplesPerPixel,
        "number_of_frames": 1,
        "bits_allocated": ds.BitsAllocated,
        "bits_stored": ds.BitsStored,
        "pixel_representation": ds.PixelRepresentation,
        "photometric_interpretation": ds.PhotometricInterpretation,
        "planar_configuration": 0,
    }


def made_cases() -> Iterator[Case]:
    """Every transfer syntax with what it can hold."""
    for syntax in (*LOSSLESS, *COMPRESSED):
        jpeg = syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
        depths = {uid.JPEGBaseline8Bit: (8,), uid.JPEGExtended12Bit: (8, 12)}.get(syntax, (8, 12, 16))
        for bits in depths:
            for photometric in ("MONOCHROME1", "MONOCHROME2"):
                for window in (True, False):
                    yield made(syntax, photometric, bits, window=window)
            if bits == 16 and not jpeg and syntax != uid.JPEGLSNearLossless:
                yield made(syntax, "MONOCHROME2", bits, signed=True)
        if syntax != uid.JPEGExtended12Bit:
            yield made(syntax, "RGB", 8, window=False)


def files_of_pydicom() -> Iterator[Case]:
    """Those of its test files that are one image of up to 16 bits; why another is refused is printed."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for path in sorted(folder.rglob("*")):
        try:
            ds = pydicom.dcmread(path)
            if int(ds.get("NumberOfFrames") or 1) > 1 or ds.BitsAllocated > 16:
                continue
            syntax = ds.file_meta.TransferSyntaxUID
        except Exception:  # no DICOM, or one without pixels
            continue
        try:
            decode(path.read_bytes(), path.name, Intensity(0, 2**16 - 1, "full"))
        except InputError as error:
            print(error)
            continue
        yield Case(
            syntax.name,
            ds.PhotometricInterpretation,
            ds.BitsStored,
            bool(ds.PixelRepresentation),
            path.read_bytes(),
        )


def reference(data: bytes) -> np.ndarray:
    """highdicom's image, gray levels from 0 to 255 as float64; ValueError for what it does not read."""
    import highdicom

    image = highdicom.imread(io.BytesIO(data))
    frame = image.get_frame(1, dtype=np.float64, apply_voi_transform=None, voi_output_range=(0, 255))
    ds = pydicom.dcmread(io.BytesIO(data))
    if "WindowWidth" in ds or "VOILUTSequence" in ds:
        return frame
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return frame / (2 ** ds.RedPaletteColorLookupTableDescriptor[2] - 1) * 255
    signed = ds.PixelRepresentation == 1
    ends = np.array([0, 2**ds.BitsStored - 1]) - (2 ** (ds.BitsStored - 1) if signed else 0)
    low, high = sorted(ends * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0)))
    return (frame - low) / (high - low) * 255


def difference(case: Case) -> float:
    """The largest, of gray levels; NaN where highdicom does not read the file."""
    ours = decode(case.data, "case.dcm", Intensity(0, 2**case.bits - 1, "full")).astype(np.float64)
    try:
        theirs = reference(case.data)
    except Exception:  # of many kinds; big endian is one
        return float("nan")
    if ours.ndim < theirs.ndim:
        ours = ours[:, :, None]
    return float(np.abs(ours - theirs).max())


def main() -> None:
    warnings.filterwarnings("ignore")
    rows: dict[tuple[str, str, str], list[float]] = {}
    for cases in (made_cases(), files_of_pydicom()):
        for case in cases:
            key = (case.syntax, case.photometric, f"{case.bits}{' signed' if case.signed else ''}")
            rows.setdefault(key, []).append(difference(case))
    print("| transfer syntax | photometric | bits | images | not read by highdicom | largest |")
    print("|---|---|---|---|---|---|")
    for key, differences in sorted(rows.items()):
        unread = int(np.isnan(differences).sum())
        largest = "" if unread == len(differences) else f"{np.nanmax(differences):.2f}"
        print(f"| {' | '.join(key)} | {len(differences)} | {unread} | {largest} |")


if __name__ == "__main__":
    main()
