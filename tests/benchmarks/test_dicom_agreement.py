"""What is read of DICOM files lies within one gray level of highdicom, in every transfer syntax."""

import numpy as np
import pytest
from pydicom import uid

from benchmarks.dicom_agreement import COMPRESSED, difference, files_of_pydicom, made, made_cases


@pytest.mark.parametrize("syntax", [*COMPRESSED, uid.ExplicitVRLittleEndian], ids=lambda one: one.keyword)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_each_transfer_syntax_agrees_with_highdicom_within_a_gray_level(syntax, photometric):
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    assert difference(made(syntax, photometric, bits)) < 1
    assert difference(made(syntax, photometric, bits, window=False)) < 1


@pytest.mark.slow
def test_all_made_images_and_the_files_of_pydicom_agree_within_a_gray_level():
    differences = {
        case[:4]: difference(case) for cases in (made_cases(), files_of_pydicom()) for case in cases
    }
    assert max(value for value in differences.values() if not np.isnan(value)) < 1
    assert sum(map(np.isnan, differences.values())) < 5, "highdicom reads all but big endian"
