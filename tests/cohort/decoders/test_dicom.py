"""DICOM: every attribute that changes a gray level, by hand; what is refused; nothing of a person said."""

import io
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate

from benchmarks.dicom_agreement import COMPRESSED, made
from cohort.decoders.decoded import BURNED_IN, HIGH_BYTE
from cohort.decoding import decode, decode_raw
from cohort.errors import InputError
from cohort.intensity import Intensity
from tests.cohort.decoders.made_dicom import dicom, lut, written
from tests.cohort.made_images import encode, random_image

STORED = np.array([[0, 1000, 2000, 4095]], dtype=np.uint16)


def levels(stored=STORED, voi="", **attributes):
    return decode_raw(dicom(stored, **attributes), "a.dcm", voi).pixels.tolist()


def test_a_window_by_hand():
    """PS3.3 C.11.2.1.2.1: (x - 999.5) / 2000 + 0.5; 1000 and 2000 give 127.56 and 255 after clipping."""
    assert levels(WindowCenter=1000, WindowWidth=2001) == [[0, 128, 255, 255]]


def test_the_window_is_one_of_rescaled_values_and_its_width_is_lessened_after_that():
    """2 x - 1000 is -1000, 1000, 3000, 7190; the window is that above."""
    attributes = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 2001}
    assert levels(**attributes) == [[0, 128, 255, 255]]


@pytest.mark.parametrize(
    ("function", "expected"), [("LINEAR_EXACT", [0, 128, 255, 255]), ("SIGMOID", [30, 128, 225, 254])]
)
def test_the_other_functions_of_a_window_by_hand(function, expected):
    """1000 is the centre; 255 / (1 + exp(2)) = 30.4, 255 / (1 + exp(-2)) = 224.6, 255 / (1 + exp(-6.19))."""
    got = levels(WindowCenter=1000, WindowWidth=2000, VOILUTFunction=function)[0]
    assert got == expected or (function == "SIGMOID" and np.abs(np.subtract(got, expected)).max() <= 1)


WINDOWS = {
    "WindowCenter": [1000, 3000],
    "WindowWidth": [2001, 2001],
    "WindowCenterWidthExplanation": ["SOFT", "BONE"],
}


def test_of_several_windows_the_first_or_the_one_that_is_named():
    assert levels(**WINDOWS) == levels(**WINDOWS, voi="soft") == [[0, 128, 255, 255]]
    assert levels(**WINDOWS, voi="BONE") == [[0, 0, 0, 255]]
    assert levels(**WINDOWS, voi="3000,2001") == [[0, 0, 0, 255]]
    with pytest.raises(InputError, match=r"a\.dcm: .*has no window 'LUNG'; give voi:CENTER,WIDTH"):
        levels(**WINDOWS, voi="LUNG")


def test_an_intensity_chooses_the_window():
    data = dicom(STORED, **WINDOWS)
    assert decode(data, "a", Intensity(0, 65535, "voi:BONE")).tolist() == [[0, 0, 0, 255]]
    assert decode(data, "a", Intensity(0, 65535, "full")).tolist() == [[0, 128, 255, 255]]


def test_a_window_without_width_is_none():
    assert decode_raw(dicom(STORED, WindowCenter=0, WindowWidth=0), "a").pixels.dtype == np.uint16


def test_a_voi_lut_goes_before_a_window_and_a_modality_lut_before_both():
    stored = np.array([[0, 1, 2, 3, 9]], dtype=np.uint8)
    table = lut([0, 100, 200, 255])
    assert levels(stored, VOILUTSequence=table, WindowCenter=1, WindowWidth=1) == [[0, 100, 200, 255, 255]]
    assert levels(stored, ModalityLUTSequence=lut([3, 2, 1, 0]), VOILUTSequence=table) == [
        [255, 200, 100, 0, 0]
    ]


def test_monochrome1_is_inverted_after_the_window_and_without_one():
    window = {"WindowCenter": 1000, "WindowWidth": 2001}
    assert levels(photometric="MONOCHROME1", **window) == [[255, 127, 0, 0]]
    assert levels(photometric="MONOCHROME1", BitsStored=12) == [[4095, 3095, 2095, 0]]
    assert levels(np.array([[0, 7, 255]], np.uint8), photometric="MONOCHROME1") == [[255, 248, 0]]


def test_values_without_a_window_are_16_bit_gray_from_zero():
    assert levels(BitsStored=12) == STORED.tolist()
    signed = np.array([[-2048, 0, 2047]], dtype=np.int16)
    assert levels(signed, BitsStored=12, RescaleIntercept=-1024, RescaleSlope=1) == [[0, 2048, 4095]]
    assert levels(BitsStored=12, RescaleSlope=-1, RescaleIntercept=0) == [[4095, 3095, 2095, 0]]


def test_bits_above_those_stored_do_not_count():
    assert levels(np.array([[0x1001, 0xF002]], np.uint16), BitsStored=12) == [[1, 2]]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(photometric):
    window = {"WindowCenter": 2000, "WindowWidth": 4001, "photometric": photometric}
    assert levels(PixelPaddingValue=4095, **window)[0][3] == 0
    assert levels(PixelPaddingValue=1000, PixelPaddingRangeLimit=4095, **window)[0][1:] == [0, 0, 0]


def test_colours_are_rgb_whatever_their_interpretation():
    rgb = random_image(6, 8, 3)
    planes = dicom(rgb.transpose(2, 0, 1).copy().reshape(6, 8, 3), photometric="RGB", PlanarConfiguration=1)
    for data in (dicom(rgb, photometric="RGB"), planes):
        np.testing.assert_array_equal(decode(data, "a"), rgb)
    from pydicom.pixels import convert_color_space

    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    assert np.abs(decode(dicom(ybr, photometric="YBR_FULL"), "a").astype(int) - rgb).max() <= 2
    deep = dicom(rgb.astype(np.uint16) * 257, photometric="RGB")
    np.testing.assert_array_equal(decode(deep, "a"), rgb)
    assert decode_raw(deep, "a").notes == (HIGH_BYTE,)


def test_a_palette_is_looked_up():
    def palette(values):
        return np.array(values, dtype=np.uint16).tobytes()

    attributes = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour, values in (("Red", [0, 65535]), ("Green", [0, 0]), ("Blue", [0x8000, 0]))
        for part, value in (("Descriptor", [2, 0, 16]), ("Data", palette(values)))
    }
    stored = np.array([[0, 1, 5]], dtype=np.uint8)
    got = decode(dicom(stored, photometric="PALETTE COLOR", **attributes), "a")
    assert got.tolist() == [[[0, 0, 128], [255, 0, 0], [255, 0, 0]]]


def test_burned_in_annotations_are_noted():
    assert decode_raw(dicom(STORED, BurnedInAnnotation="YES"), "a").notes == (BURNED_IN,)
    assert decode_raw(dicom(STORED, BurnedInAnnotation="NO"), "a").notes == ()


def test_the_window_of_an_enhanced_image_stands_in_its_functional_groups():
    window, group = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 1000, 2001
    group.FrameVOILUTSequence = [window]
    assert levels(NumberOfFrames=1, SharedFunctionalGroupsSequence=[group]) == [[0, 128, 255, 255]]


def test_without_preamble_it_is_known_by_its_first_element():
    data = dicom(STORED, WindowCenter=1000, WindowWidth=2001)
    assert decode(data[132:], "IM0001").tolist() == [[0, 128, 255, 255]]
    bare = pydicom.dcmread(io.BytesIO(data))
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, Dataset(bare), implicit_vr=True, little_endian=True)
    assert decode(buffer.getvalue(), "IM0002").tolist() == [[0, 128, 255, 255]]


def test_big_endian_values_are_those_of_little_endian():
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    big, little = ((folder / f"MR_small{name}.dcm").read_bytes() for name in ("_bigendian", ""))
    np.testing.assert_array_equal(decode(big, "a"), decode(little, "a"))


REFUSED = {
    "a DICOM of 7 frames": {"NumberOfFrames": 7},
    "a DICOM of 32 bits per value": {"stored": np.zeros((3, 3), np.uint32)},
    "a DICOM of floating-point values": {"PixelData": None, "FloatPixelData": bytes(16)},
    "a DICOM without an image (Digital X-Ray Image Storage": {"PixelData": None},
    "a DICOM without Rows": {"Rows": None},
    "whose 12 bits end at bit 15": {"BitsStored": 12, "HighBit": 15},
    "a DICOM in HSV": {"photometric": "HSV"},
    "a DICOM with a segmented palette": {
        "photometric": "PALETTE COLOR",
        "SegmentedRedPaletteColorLookupTableData": bytes(8),
    },
    "60000 x 60000 pixels, and more than": {"Rows": 60000, "Columns": 60000},
    "the longer side may be at most": {"Rows": 1, "Columns": 30000},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_single_image_of_16_bits_is_refused_in_one_line(message):
    attributes = {"stored": STORED} | REFUSED[message]
    with pytest.raises(InputError) as error:
        decode_raw(dicom(**attributes), "a.dcm")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("a.dcm: unreadable image (")


def compressed(frame, syntax, stored=STORED):
    ds = pydicom.dcmread(io.BytesIO(dicom(stored)))
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    return written(ds)


def test_a_compressed_image_larger_than_stated_is_refused_before_it_is_decoded():
    gray = np.zeros((4, 4), dtype=np.uint8)
    large = encode(np.zeros((5000, 5000), dtype=np.uint8), "JPEG")
    with pytest.raises(InputError, match=r"DICOM: compressed are 5000 x 5000 pixels of 1 samples, stated"):
        decode_raw(compressed(large, uid.JPEGBaseline8Bit, gray), "a")
    large = encode(np.zeros((5000, 5000), dtype=np.uint8), "JPEG2000")  # in the boxes of a JP2 file
    with pytest.raises(InputError, match=r"DICOM: compressed are 5000 x 5000 pixels of 1 samples, stated"):
        decode_raw(compressed(large, uid.JPEG2000Lossless, gray), "a")


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda one: one.keyword)
def test_a_compressed_file_that_is_cut_off_is_refused(syntax):
    data = made(syntax, "MONOCHROME2", 8 if syntax == uid.JPEGBaseline8Bit else 12).data
    for kept in (0.6, 0.95):
        with pytest.raises(InputError, match=r"^a: unreadable image \("):
            decode_raw(data[: int(len(data) * kept)], "a")


def test_a_lossless_frame_of_which_a_part_is_lost_is_refused():
    image = np.random.default_rng(0).integers(0, 4096, (60, 50)).astype(np.uint16)
    frame = imagecodecs.jpeg8_encode(image, lossless=True, bitspersample=12)
    np.testing.assert_array_equal(
        decode_raw(compressed(frame, uid.JPEGLosslessSV1, image), "a").pixels, image
    )
    harmed = frame[: len(frame) // 2] + bytes(len(frame) // 2)
    with pytest.raises(InputError, match="JPEG values beyond their bits; get it again"):
        decode_raw(compressed(harmed, uid.JPEGLosslessSV1, image), "a")


def test_what_is_compressed_as_a_film_is_refused_by_name():
    with pytest.raises(InputError, match=r"compressed as MPEG2 .*, which is not readable; decompress it"):
        decode_raw(compressed(bytes(20), uid.MPEG2MPML), "a")


def test_a_deflated_file_that_unpacks_without_end_is_refused(monkeypatch):
    import cohort.decoders.dicom as module

    data = dicom(random_image(40, 40), syntax=uid.DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(decode(data, "a"), random_image(40, 40))
    monkeypatch.setattr(module, "LARGEST_IMAGE_FILE", 1000)
    body = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = data[:body] + packer.compress(bytes(10**6)) + packer.flush()
    with pytest.raises(InputError, match="unpacks to more than 1,000 bytes"):
        decode_raw(bomb, "a")
    hidden = bomb[:140] + (2).to_bytes(4, "little") + bomb[144:]
    with pytest.raises(InputError, match="a header that is not in order"):
        decode_raw(hidden, "a")


def test_the_first_images_may_be_decoded_by_several_threads(tmp_path):
    """In a process of its own, where nothing is imported yet."""
    import subprocess
    import sys

    image = np.arange(48, dtype=np.uint8).reshape(6, 8)
    (tmp_path / "a.dcm").write_bytes(compressed(encode(image, "JPEG2000"), uid.JPEG2000Lossless, image))
    code = (
        "import sys; from concurrent.futures import ThreadPoolExecutor; from cohort.decoding import decode\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(len(list(pool.map(lambda i: decode(data, 'a'), range(64)))))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.dcm"], capture_output=True, text=True)
    assert done.stdout == "64\n", done.stderr
