"""The door to the test labels: what it lets through, and the record that it keeps."""

import json

import numpy as np
import pytest

from analysis.test_split import open_split_counts, open_test_split
from cohort.errors import InputError
from tests.analysis.synthetic import finished_study, made_up_cohort


def test_a_test_split_without_positives_is_refused(tmp_path):
    study = finished_study(images=500)
    nothing = np.zeros(len(study.cohort.labels), dtype=bool)
    with pytest.raises(InputError, match="none of the study's labels has 2 positive patients on test"):
        open_test_split(study.cohort, nothing, tmp_path / "openings.jsonl", "test")


def test_every_opening_is_recorded_with_its_reason(tmp_path):
    cohort, openings = made_up_cohort(500, seed=0), tmp_path / "run" / "openings.jsonl"
    open_test_split(cohort, np.ones(len(cohort.labels), dtype=bool), openings, "analyze it")
    open_split_counts(cohort, openings, "export it")
    events = [json.loads(line) for line in openings.read_text().splitlines()]
    assert [event["why"] for event in events] == ["analyze it", "export it"]


def test_an_opening_is_recorded_even_where_the_split_is_refused(tmp_path):
    cohort = made_up_cohort(500, seed=0)
    with pytest.raises(InputError):
        open_test_split(cohort, np.zeros(len(cohort.labels), dtype=bool), tmp_path / "openings.jsonl", "it")
    assert (tmp_path / "openings.jsonl").exists()


def test_counts_are_of_images_patients_and_masked_cells(analysed):
    cohort = analysed.study.cohort
    counts = analysed.evidence.split.counts
    assert [one.split for one in counts] == ["train", "val", "test"]
    assert sum(one.images for one in counts) == cohort.present.num_rows
    targets_NC = cohort.targets_NC(cohort.indices("val"))
    assert counts[1].positives_C == (targets_NC == 1).sum(axis=0).tolist()
    assert counts[1].masked_C == [0] * len(cohort.labels)
