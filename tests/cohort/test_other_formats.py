"""Formats that are not readable yet are named by what their files begin with, or by their endings."""

import pytest

from cohort.other_formats import HEAD, other_format
from tests.cohort.made_images import encode, random_image


@pytest.mark.parametrize("name", ["BMP", "TIFF", "GIF", "WebP"])
def test_a_file_is_known_by_its_bytes_whatever_it_is_called(name):
    assert other_format(encode(random_image(8, 8), name.upper())[:HEAD], "scan.png") == name


def test_dicom_is_known_by_its_magic_and_by_its_ending():
    assert other_format(bytes(128) + b"DICM", "1.2.840.113619.2") == "DICOM"
    assert other_format(b"no preamble", "scan.DCM") == "DICOM"


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_what_is_readable_and_what_is_no_image_is_none_of_them(file_format):
    assert other_format(encode(random_image(64, 64), file_format)[:HEAD], "scan") == ""
    assert other_format(b"", "labels.csv") == ""
