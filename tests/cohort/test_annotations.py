"""Boxes and masks beside a cohort: what they cover, and that nothing strange is believed."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cohort.annotations import Annotations, Region, check_regions, mask_region, write_annotations
from cohort.errors import InputError
from cohort.manifest import ANNOTATIONS, Cohort
from cohort.summary import describe
from sample.phantoms import DRAWER, draw_cohort
from tests.cohort.made_images import cohort_of, write_images

BOX = Region("0.png", "Edema", "", x=2.0, y=4.0, w=3.0, h=5.0, image_width=20, image_height=20)


@pytest.fixture
def cohort(tmp_path):
    write_images(tmp_path / "images", count=3)
    return cohort_of(tmp_path / "images", tmp_path / "cohort")


def test_a_box_covers_the_pixels_whose_centres_it_holds():
    mask_HW = BOX.mask()
    assert mask_HW.sum() == 15 and mask_HW[4:9, 2:5].all()
    half = dataclasses.replace(BOX, x=2.6, w=2.0)  # centres 3.5 and 4.5
    assert half.mask()[:, 3:5].any() and not half.mask()[:, 2].any()
    tiny = dataclasses.replace(BOX, x=2.6, w=0.1, y=19.9, h=0.1)
    assert np.argwhere(tiny.mask()).tolist() == [[19, 2]]


def test_a_mask_is_kept_to_the_pixel_with_the_box_around_it():
    mask_HW = np.zeros((20, 23), dtype=bool)
    mask_HW[3, 4], mask_HW[7, 2] = True, True
    region = mask_region("1.png", "Edema", "A", mask_HW)
    assert (region.x, region.y, region.w, region.h) == (2, 3, 3, 5)
    np.testing.assert_array_equal(region.mask(), mask_HW)
    with pytest.raises(ValueError, match="empty"):
        mask_region("1.png", "Edema", "A", np.zeros((2, 2), dtype=bool))


def test_they_lie_beside_the_manifest_with_a_hash_of_their_own(cohort):
    assert Annotations.open(cohort) is None
    mask_HW = np.eye(20, dtype=bool)
    regions = [mask_region("0.png", "Edema", "B", mask_HW), BOX]
    write_annotations(cohort.folder, regions)
    found = Annotations.open(cohort)
    assert set(found.regions) == set(regions) and found.raters == ["", "B"]
    np.testing.assert_array_equal(found.mask("0.png", "Edema"), mask_HW | BOX.mask())
    np.testing.assert_array_equal(found.mask("0.png", "Edema", "B"), mask_HW)
    assert found.mask("1.png", "Edema") is None
    assert Cohort.open(cohort.folder).content_hash == cohort.content_hash
    write_annotations(cohort.folder, [BOX])
    assert Annotations.open(cohort).content_hash != found.content_hash
    assert "Annotations" in describe(cohort) and "Edema" in describe(cohort)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "9.png"}, "no image '9.png'"),
        ({"label": "Mass"}, "no label 'Mass'"),
        ({"x": -1.0}, "does not lie in 20 x 20"),
        ({"w": 30.0}, "does not lie in 20 x 20"),
        ({"w": 0.0}, "does not lie in"),
        ({"y": float("nan")}, "does not lie in"),
        ({"image_width": 10**6}, "not believed"),
        ({"runs": (3, 4)}, "the mask is not of 20 x 20"),
        ({"organ": "lungs"}, "of a label or of an organ"),
        ({"label": "", "organ": "a\nb"}, "an organ's name must"),
        ({"drawn_by": "nobody"}, "drawn by 'nobody'"),
    ],
)
def test_a_region_that_cannot_be_is_refused(cohort, change, message):
    with pytest.raises(InputError, match=message):
        check_regions([dataclasses.replace(BOX, **change)], cohort)


def test_organs_are_kept_apart_from_labels(cohort):
    lungs = dataclasses.replace(BOX, label="", organ="lungs", x=9.0, drawn_by="software")
    write_annotations(cohort.folder, [BOX, lungs])
    found = Annotations.open(cohort)
    assert found.organs == {"lungs": {"0.png": [lungs]}} and found.by_image == {("0.png", "Edema"): [BOX]}
    np.testing.assert_array_equal(found.mask("0.png", "Edema"), BOX.mask())
    assert "lungs (organ)" in describe(cohort)


def test_a_damaged_or_foreign_file_is_refused_in_one_line(cohort):
    path = cohort.folder / ANNOTATIONS
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"damaged .*; remove it and annotate the cohort again"):
        Annotations.open(cohort)
    pq.write_table(pa.table({"image": ["0.png"]}), path)
    with pytest.raises(InputError, match="not annotations of format"):
        Annotations.open(cohort)
    write_annotations(cohort.folder, [BOX])
    table = pq.read_table(path)
    moved = table.set_column(table.column_names.index("x"), "x", pa.array([3.0]))
    pq.write_table(moved, path)
    with pytest.raises(InputError, match="no longer those that it was written with"):
        Annotations.open(cohort)


def test_the_sample_has_its_exact_masks_from_the_start(tmp_path):
    sample = draw_cohort(tmp_path / "sample", images=60, size=48)
    found = Annotations.open(sample)
    assert found.raters == [DRAWER]
    drawn = 0
    targets_NC, labels = sample.targets_NC(), sample.labels
    for n, image in enumerate(sample.images()):
        bits_HW = np.asarray(Image.open(sample.folder / "masks" / f"{image}.png"))
        for c, label in enumerate(labels):
            mask_HW = found.mask(image, label)
            assert (mask_HW is not None) == bool((bits_HW >> c & 1).any())
            if mask_HW is not None:
                np.testing.assert_array_equal(mask_HW, bits_HW >> c & 1 == 1)
                assert targets_NC[n, c] == 1
                drawn += 1
    assert drawn > 20
