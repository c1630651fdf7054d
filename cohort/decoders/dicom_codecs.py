"""Compressed frames of DICOM files by imagecodecs: libjpeg-turbo (8 and 12 bits, lossless), CharLS, OpenJPEG.

pydicom's own choice depends on what else is installed, and none of it without a copyleft licence reads JPEG
of 12 bits. imagecodecs gives the same pixels everywhere, and lets other threads work while it decodes.
"""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders import base

from cohort.jpeg_damage import jpeg_damage
from cohort.jpeg_frames import jpeg_frame

PLUGIN = "imagecodecs"
JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
SYNTAXES = (*JPEG, *JPEG_LS, *JPEG_2000, uid.RLELossless)

DECODER_DEPENDENCIES = {syntax: ("imagecodecs",) for syntax in SYNTAXES}
"""pydicom wants it of a plugin."""


def is_available(syntax: str) -> bool:
    """pydicom wants it of a plugin."""
    return syntax in SYNTAXES


def decoder_of(syntax: uid.UID) -> base.Decoder:
    """pydicom's decoder of a transfer syntax, with this plugin where it is compressed; NotImplementedError
    for a syntax that is neither."""
    if syntax.is_encapsulated and syntax not in SYNTAXES:
        raise NotImplementedError(syntax.name)
    return get_decoder(syntax)


def decode_frame(frame: bytes, runner: base.DecodeRunner) -> bytes:
    """The pixels of one compressed frame, as pydicom asks its plugins; ValueError where its codestream is of
    another size than the file states, and whatever imagecodecs raises."""
    syntax, samples = runner.transfer_syntax, runner.samples_per_pixel
    if syntax == uid.RLELossless:
        runner.set_option("planar_configuration", 1)
        depth = np.dtype(f"<u{runner.bits_allocated // 8}")
        pixels = bytearray(runner.rows * runner.columns * samples * depth.itemsize)
        imagecodecs.dicomrle_decode(frame, depth, out=pixels)
        return bytes(pixels)
    check_size_of_codestream(frame, syntax, (runner.columns, runner.rows, samples))
    if syntax in JPEG_2000:
        pixels = imagecodecs.jpeg2k_decode(frame, numthreads=1)
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")
    elif syntax in JPEG_LS:
        pixels = imagecodecs.jpegls_decode(frame)
    else:
        pixels = _jpeg(frame, runner)
    if samples > 1:
        runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", pixels.dtype.itemsize * 8)
    return pixels.tobytes()


def _jpeg(frame: bytes, runner: base.DecodeRunner) -> np.ndarray:
    """Colours as an Adobe marker says, or else as the file states: many encoders leave RGB untransformed
    without saying so in the codestream."""
    if damage := jpeg_damage(frame):
        raise ValueError(f"{damage}; get it again")
    if runner.samples_per_pixel == 1 or runner.transfer_syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        pixels = imagecodecs.jpeg8_decode(frame)
        # Lossless values follow from their neighbours, and run out of their range where some are lost.
        if int(pixels.max()) >> jpeg_frame(frame).precision:
            raise ValueError("JPEG values beyond their bits; get it again")
        return pixels
    adobe = b"\xff\xee\x00\x0eAdobe" in frame[:4096]
    if runner.photometric_interpretation == "RGB" and not adobe:
        return imagecodecs.jpeg8_decode(frame, colorspace="RGB", outcolorspace="RGB")
    runner.set_option("photometric_interpretation", "RGB")
    if adobe:
        return imagecodecs.jpeg8_decode(frame, outcolorspace="RGB")
    return imagecodecs.jpeg8_decode(frame, colorspace="YCBCR", outcolorspace="RGB")


def check_size_of_codestream(frame: bytes, syntax: uid.UID, expected: tuple[int, int, int]) -> None:
    """ValueError where a JPEG, JPEG-LS or JPEG 2000 codestream does not have `expected` columns, rows and
    samples: decoders make room for what it says before anything is compared."""
    if syntax in JPEG_2000:
        found = _size_of_jpeg_2000(frame)
    else:
        header = jpeg_frame(frame)
        found = (header.columns, header.rows, header.samples) if header else (0, 0, 0)
    if found != expected:
        raise ValueError(
            f"compressed are {found[0]} x {found[1]} pixels of {found[2]} samples, stated are "
            f"{expected[0]} x {expected[1]} of {expected[2]}"
        )


def _size_of_jpeg_2000(frame: bytes) -> tuple[int, int, int]:
    """(columns, rows, samples) of the SIZ segment (ITU-T T.800 A.5.1); zeros without. Some files have the
    codestream in the box of a JP2 file (I.5.4), which DICOM does not allow."""
    place = 0
    while frame[place : place + 4] != b"\xff\x4f\xff\x51":
        length, kind = struct.unpack_from(">I4s", frame, place) if place + 8 <= len(frame) else (0, b"")
        header = 16 if length == 1 else 8
        length = int.from_bytes(frame[place + 8 : place + 16], "big") if length == 1 else length
        if kind == b"jp2c":
            place += header
        elif length >= header:
            place += length
        else:
            return 0, 0, 0
    if len(frame) < place + 42:
        return 0, 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", frame, place + 8)
    (samples,) = struct.unpack_from(">H", frame, place + 40)
    return right - left, bottom - top, samples


# As this file is imported, which happens once, whatever thread decodes first.
for _syntax in SYNTAXES:
    get_decoder(_syntax).add_plugin(PLUGIN, (__name__, "decode_frame"))
