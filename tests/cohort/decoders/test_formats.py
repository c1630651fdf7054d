"""Formats by what files begin with."""

import pytest

from cohort.decoders.formats import HEAD, format_of, slide_maker
from tests.cohort.decoders.made_dicom import dicom
from tests.cohort.made_images import encode, random_image


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "GIF", "WebP", "TIFF"])
def test_a_format_is_known_by_the_beginning_of_a_file(name):
    assert format_of(encode(random_image(8, 8), name)[:HEAD]) == name


def test_dicom_is_known_with_its_preamble_and_without():
    data = dicom(random_image(8, 8))
    assert format_of(data[:HEAD]) == format_of(data[132 : 132 + HEAD]) == "DICOM"


@pytest.mark.parametrize("data", [b"", b"BMI of 20 patients, in kg", b"\x08\0\0\0", b"\x02\0" + bytes(200)])
def test_other_files_are_none(data):
    assert format_of(data[:HEAD]) == ""


def test_a_slide_is_known_by_its_ending():
    assert slide_maker("a/b.NDPI") == "Hamamatsu" and slide_maker("a.tif") == slide_maker("svs") == ""
