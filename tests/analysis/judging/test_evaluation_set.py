"""The door to the test labels: what it lets through, and the record that it keeps."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from analysis.judging.evaluation_set import (
    development_set,
    open_split_counts,
    open_test_split,
)
from cohort.errors import InputError
from tests.analysis.synthetic import finished_study, ledger_in, made_up_cohort


def test_a_test_split_without_positives_is_refused(tmp_path):
    study = finished_study(images=500)
    nothing = np.zeros(len(study.cohort.labels), dtype=bool)
    with pytest.raises(InputError, match="none of the study's labels has 2 positive patients and"):
        open_test_split(study.cohort, nothing, ledger_in(tmp_path, study.cohort), "test")


def test_every_access_is_recorded_with_its_reason(tmp_path):
    cohort = made_up_cohort(500, seed=0)
    ledger, everything = ledger_in(tmp_path, cohort), np.ones(len(cohort.labels), dtype=bool)
    first = open_test_split(cohort, everything, ledger, "analyze it", "abc")
    open_split_counts(cohort, ledger, "export it")
    assert [(one.why, one.predictions_hash) for one in ledger.before()] == [
        ("analyze it", "abc"),
        ("export it", ""),
    ]
    assert first.accessed == []
    assert len(open_test_split(cohort, everything, ledger, "again").accessed) == 2


def test_development_images_are_judged_without_a_reading_of_test_labels(tmp_path):
    cohort = made_up_cohort(500, seed=0)
    rows_N = np.concatenate([cohort.indices("train"), cohort.indices("val")])
    split = development_set(cohort, rows_N, np.ones(len(cohort.labels), dtype=bool))
    assert split.own.images == len(rows_N) and [one.split for one in split.counts] == [
        "train",
        "val",
        "development",
    ]
    assert ledger_in(tmp_path, cohort).before() == []


def test_an_access_is_recorded_even_where_the_split_is_refused(tmp_path):
    cohort = made_up_cohort(500, seed=0)
    with pytest.raises(InputError):
        open_test_split(cohort, np.zeros(len(cohort.labels), dtype=bool), ledger_in(tmp_path, cohort), "it")
    assert [one.why for one in ledger_in(tmp_path, cohort).before()] == ["it"]


def test_counts_are_of_images_patients_and_masked_cells(analysed):
    cohort = analysed.study.cohort
    counts = analysed.judgement.split.counts
    assert [one.split for one in counts] == ["train", "val", "test"]
    assert sum(one.images for one in counts) == cohort.present.num_rows
    targets_NC = cohort.targets_NC(cohort.indices("val"))
    assert counts[1].positives_C == (targets_NC == 1).sum(axis=0).tolist()
    assert counts[1].masked_C == [0] * len(cohort.labels)


def split_of(targets_NC, tmp_path):
    """A test split of two images a patient with these targets."""
    cohort = made_up_cohort(500, seed=0, masked=0.0)
    rows_N = np.flatnonzero(np.array(cohort.table["split"].to_pylist()) == "test")[: len(targets_NC)]
    table = cohort.table.take(np.concatenate([cohort.indices("train"), rows_N]))
    patients = np.array(table["patient"].to_pylist(), dtype=object)
    patients[-len(rows_N) :] = [f"q{row // 2}" for row in range(len(rows_N))]
    table = table.set_column(table.column_names.index("patient"), "patient", pa.array(patients.tolist()))
    for c, label in enumerate(cohort.labels):
        cells = table[f"label.{label}"].to_pylist()
        cells[-len(rows_N) :] = [None if np.isnan(cell) else int(cell) for cell in targets_NC[:, c]]
        name = f"label.{label}"
        table = table.set_column(table.column_names.index(name), name, pa.array(cells, pa.int8()))
    everything = np.ones(len(cohort.labels), dtype=bool)
    cohort = replace(cohort, table=table)
    return open_test_split(cohort, everything, ledger_in(tmp_path, cohort), "it")


def test_a_label_counts_in_the_averages_by_the_patients_on_its_smaller_side(tmp_path):
    targets_NC = np.zeros((12, 14))
    targets_NC[:, 0] = np.repeat([1, 1, 1, 1, 1, 0], 2)  # a single negative patient
    targets_NC[:, 1] = np.repeat([1, 1, 0, 0, 0, 0], 2)
    split = split_of(targets_NC, tmp_path)
    assert split.fewer_patients_C[:3].tolist() == [1, 2, 0]
    assert np.flatnonzero(split.averaged_C).tolist() == [1]
    assert (split.own.patients_C[0], split.own.negative_patients_C[0]) == (5, 1)


def test_images_with_every_label_masked_are_counted_but_not_as_scored(tmp_path):
    targets_NC = np.zeros((12, 14))
    targets_NC[:4, 0] = 1
    targets_NC[-3:] = np.nan  # a patient, and one image of another
    own = split_of(targets_NC, tmp_path).own
    assert (own.images, own.patients, own.scored_images, own.scored_patients) == (12, 6, 9, 5)
