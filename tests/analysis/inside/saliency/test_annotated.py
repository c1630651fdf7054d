"""Pairs of image and label, and what people reach against each other."""

import numpy as np
import pytest

from analysis.inside.saliency.annotated import annotated_pairs, between_raters, by_people, organ_pairs
from cohort.annotations import Annotations, mask_region, write_annotations
from cohort.manifest import Cohort
from sample.phantoms import draw_cohort
from tests.analysis.inside.saliency.regions import pair_of, square


def test_nobody_drew_on_a_cohort_without_annotations(tmp_path):
    cohort = draw_cohort(tmp_path / "sample", images=60, size=32)
    assert len(annotated_pairs(cohort, np.arange(60))) > 0 and Annotations.open(cohort) is not None
    (cohort.folder / "annotations.parquet").unlink()
    assert annotated_pairs(Cohort.open(cohort.folder), np.arange(60)) == []


def test_what_people_reach_against_each_other():
    first, second = square(0, 0), square(0, 1)  # they share two of six pixels
    alone, both = pair_of(0, "A", first), pair_of(1, "A", first, second)
    np.testing.assert_array_equal(both.mask(), first | second)
    assert between_raters([alone]) is None
    regions, overlap, met = between_raters([alone, both])
    assert (regions, overlap) == (1, pytest.approx(2 / 6))
    # The centres, (0.5, 0.5) and (0.5, 1.5), are rounded to the pixels (0, 0) and (0, 2).
    assert met == 0
    assert between_raters([pair_of(1, "A", first, first)])[1:] == (1, 1)


def test_an_organs_mask_is_of_every_label_that_its_image_has(tmp_path):
    cohort = draw_cohort(tmp_path / "sample", images=60, size=32)
    image, other = cohort.images()[:2]
    mask_HW = np.eye(32, dtype=bool)
    lungs = mask_region(image, "", "", mask_HW, organ="lungs", drawn_by="people")
    write_annotations(cohort.folder, [lungs])
    targets_NC = np.array([[1, 0, 1], [1, 1, np.nan]])
    found = organ_pairs(cohort, np.array([0, 1]), targets_NC, ("A", "B", "C"))
    assert [(pair.row, pair.label) for pair in found["lungs"]] == [(0, "A"), (0, "C")]
    np.testing.assert_array_equal(found["lungs"][0].mask(), mask_HW)
    assert by_people(found["lungs"]) and not annotated_pairs(cohort, np.arange(60))
    unknown = mask_region(other, "", "", mask_HW, organ="lungs")
    write_annotations(cohort.folder, [lungs, unknown])
    both = organ_pairs(cohort, np.array([0, 1]), targets_NC, ("A", "B", "C"))["lungs"]
    assert len(both) == 4 and not by_people(both)
