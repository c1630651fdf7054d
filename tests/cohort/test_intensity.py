"""The intensity of 16-bit gray: every rule against an independent computation, and by hand."""

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.intensity import VALUES, Intensity, find_intensity, little_contrast, parse_rule


def counts(values):
    return np.bincount(np.asarray(values), minlength=VALUES)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 4095), (0, 65535), (1000, 3001), (7, 8)])
def test_values_go_linearly_to_8_bits_and_are_clipped(low, high):
    values_HW = np.arange(VALUES, dtype=np.uint16).reshape(256, 256)
    expected_HW = np.clip(np.floor((values_HW.astype(float) - low) * 255 / (high - low) + 0.5), 0, 255)
    result_HW = Intensity(low, high, "full").to_8_bit(values_HW)
    assert result_HW.dtype == np.uint8
    np.testing.assert_array_equal(result_HW, expected_HW)


def test_a_window_by_hand():
    """Of 100 to 200: 50 lies below, 125 gives 25 * 255 / 100 = 63.75, 150 gives 127.5, 900 lies above."""
    image_HW = np.array([[50, 100, 125, 150, 200, 900]], dtype=np.uint16)
    assert Intensity(100, 200, "window:100,200").to_8_bit(image_HW).tolist() == [[0, 0, 64, 128, 255, 255]]


@pytest.mark.parametrize(
    ("brightest", "high"),
    [
        (0, 255),
        (255, 255),
        (256, 1023),
        (1023, 1023),
        (1024, 4095),
        (4095, 4095),
        (4096, 16383),
        (65535, 65535),
    ],
)
def test_full_is_the_scale_of_the_smallest_depth_that_holds_the_brightest_value(brightest, high):
    assert find_intensity("full", counts([0, brightest])) == Intensity(0, high, "full")


@pytest.mark.parametrize("rule", ["percentiles:0,100", "percentiles:1,99", "percentiles:0.5,99.5"])
def test_percentiles_are_those_of_numpy(rule):
    values = np.random.default_rng(0).integers(0, VALUES, 2_001)
    low, high = np.percentile(values, parse_rule(rule)[1:], method="inverted_cdf")
    assert find_intensity(rule, counts(values)) == Intensity(int(low), int(high), rule)


def test_percentiles_by_hand():
    """Of ten pixels, the third smallest is the first that 30 % do not exceed, the ninth that 90 % do not."""
    values = [5, 5, 6, 10, 20, 30, 40, 50, 60, 1000]
    assert find_intensity("percentiles:30,90", counts(values)) == Intensity(6, 60, "percentiles:30,90")


def test_percentiles_of_images_of_one_value_are_refused():
    with pytest.raises(InputError, match="percentiles:1,99: both percentiles of the 16-bit images are 7"):
        find_intensity("percentiles:1,99", counts([7, 7]))


NO_RULES = ["", "fill", "full:1,2", "window", "window:5", "window:5,4", "window:5,5", "window:-1,5"]
NO_RULES += ["window:0,65536", "window:0.5,7", "window:a,b", "window:1,2,3", "window:nan,5"]
NO_RULES += ["percentiles:1,101", "percentiles:99,1", 3, None]


@pytest.mark.parametrize("rule", NO_RULES)
def test_what_is_no_rule_is_refused_in_one_line(rule):
    with pytest.raises(InputError, match=r"^intensity") as error:
        parse_rule(rule)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("low", "high"), [(5, 5), (-1, 5), (0, 65536), (0.0, 5), (False, True), ("0", "5")])
def test_bounds_that_are_none_are_refused(low, high):
    with pytest.raises(InputError, match="intensity must go from a whole number to a higher one"):
        Intensity(low, high, "full")


def test_a_full_scale_that_leaves_everything_dark_is_doubted():
    marked_V = counts([100] * 999 + [65535])
    full = find_intensity("full", marked_V)
    assert "99 % of the 16-bit pixels are at most 100, and white is 65535" in little_contrast(full, marked_V)
    assert little_contrast(find_intensity("window:0,65535", marked_V), marked_V) == ""
    even_V = counts(range(4096))
    assert little_contrast(find_intensity("full", even_V), even_V) == ""


def test_values_in_a_narrow_part_of_the_scale_are_doubted():
    """Signed values without a window, such as those of CT, from half the scale."""
    tissue_V = counts([32768 + value for value in range(-1000, 1000, 10)])
    said = little_contrast(find_intensity("full", tissue_V), tissue_V)
    assert "nearly one gray" in said and "voi:CENTER,WIDTH" in said


def test_a_window_of_dicom_files_leaves_other_values_to_the_full_scale():
    chosen = find_intensity("voi:LUNG", counts([0, 4000]))
    assert (chosen.low, chosen.high, chosen.voi) == (0, 4095, "LUNG")
    assert find_intensity("voi:40,400", np.zeros(VALUES, dtype=np.int64)).voi == "40,400"
    assert find_intensity("full", counts([1])).voi == ""


@pytest.mark.parametrize("rule", ["voi:", "voi", "voi:\n", f"voi:{'x' * 65}"])
def test_a_window_without_a_name_is_refused(rule):
    with pytest.raises(InputError, match="intensity must be full, "):
        parse_rule(rule)
