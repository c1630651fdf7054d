"""The record of every reading of a cohort's test labels."""

import json
import os
from dataclasses import replace

import pytest

from cohort.ledger import Ledger, described
from cohort.manifest import TEST_ACCESS
from tests.analysis.synthetic import made_up_cohort


@pytest.fixture
def cohort(tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    return replace(made_up_cohort(20, seed=0), folder=folder)


def test_a_reading_lies_beside_the_cohort_whoever_made_it(cohort, tmp_path):
    Ledger(cohort, tmp_path / "one").note("analyze a", "abc")
    Ledger(cohort, tmp_path / "other").note("compare encoders")
    found = Ledger(cohort, tmp_path / "third").before()
    assert [(one.why, one.predictions_hash) for one in found] == [
        ("analyze a", "abc"),
        ("compare encoders", ""),
    ]
    assert described([*found, found[0]]) == "analyze a (2 times), compare encoders"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_where_the_cohort_cannot_be_written_to_the_record_lies_in_the_cache(cohort, tmp_path):
    cohort.folder.chmod(0o500)
    Ledger(cohort, tmp_path).note("analyze a")
    assert not (cohort.folder / TEST_ACCESS).exists()
    assert [one.why for one in Ledger(cohort, tmp_path).before()] == ["analyze a"]


def test_a_cohort_folder_that_is_gone_leaves_the_record_to_the_cache(cohort, tmp_path):
    gone = replace(cohort, folder=cohort.folder / "file" / "cohort")
    (cohort.folder / "file").write_text("no folder")
    Ledger(gone, tmp_path).note("analyze a")
    assert [one.why for one in Ledger(gone, tmp_path).before()] == ["analyze a"]


def test_readings_of_another_content_are_of_another_test_split(cohort, tmp_path):
    Ledger(cohort, tmp_path).note("analyze a")
    assert Ledger(replace(cohort, content_hash="d" * 64), tmp_path).before() == []


def test_a_line_that_a_crash_cut_off_is_none_and_spoils_no_later_one(cohort, tmp_path):
    ledger, path = Ledger(cohort, tmp_path), cohort.folder / TEST_ACCESS
    ledger.note("analyze a")
    with open(path, "a") as file:
        file.write('{"when": "2030-01-01T00:00')
    ledger.note("analyze b")
    assert [one.why for one in ledger.before()] == ["analyze a", "analyze b"]
    assert json.loads(path.read_text().splitlines()[-1])["why"] == "analyze b"
