"""Pairs of image and label, and what people reach against each other."""

import numpy as np
import pytest

from analysis.saliency.annotated import Pair, annotated_pairs, between_readers
from cohort.annotations import Annotations
from cohort.manifest import Cohort
from sample.phantoms import draw_cohort
from tests.analysis.saliency.regions import square


def test_nobody_drew_on_a_cohort_without_annotations(tmp_path):
    cohort = draw_cohort(tmp_path / "sample", images=60, size=32)
    assert len(annotated_pairs(cohort, np.arange(60))) > 0 and Annotations.open(cohort) is not None
    (cohort.folder / "annotations.parquet").unlink()
    assert annotated_pairs(Cohort.open(cohort.folder), np.arange(60)) == []


def test_what_people_reach_against_each_other():
    first, second = square(0, 0), square(0, 1)  # they share two of six pixels
    alone = Pair(row=0, label="A", patient=0, mask_HW=first)
    both = Pair(row=1, label="A", patient=1, mask_HW=first | second, readers=(first, second))
    assert between_readers([alone]) is None
    regions, overlap, met = between_readers([alone, both])
    assert (regions, overlap) == (1, pytest.approx(2 / 6))
    # The centres, (0.5, 0.5) and (0.5, 1.5), are rounded to the pixels (0, 0) and (0, 2).
    assert met == 0
    same = Pair(row=1, label="A", patient=1, mask_HW=first, readers=(first, first))
    assert between_readers([same])[1:] == (1, 1)
