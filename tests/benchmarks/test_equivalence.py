"""The simulation of false equivalence, in small: it finds what it is there to find."""

from dataclasses import replace

import pytest

from benchmarks.equivalence import TRUTH, Case, called_equivalent, main


def test_the_true_difference_is_the_one_that_was_asked_for():
    """A positive patient of 40 who falls below all others costs 1 / 40 of an AUROC of 1."""
    assert Case("auroc", 200, 600, 10, "fall").amount == pytest.approx(TRUTH, abs=0.003)


@pytest.mark.parametrize("negatives", [90, 10])
def test_the_resamples_error_alone_calls_models_equivalent_that_differ_and_the_rule_does_not(negatives):
    found = called_equivalent(Case("f1", 10, negatives, 10, "fall", threshold=5), 60)
    assert found["error alone"] > 0.4
    assert found["in use"] == found["with floor"] == 0
    assert found["coverage"] >= 0.95


def test_two_models_that_separate_few_patients_perfectly_are_not_equivalent_and_many_are():
    few = Case("auroc", 12, 88, 10, "none")
    assert called_equivalent(few, 3) == {"error alone": 1, "with floor": 0, "in use": 0, "coverage": 1}
    assert called_equivalent(replace(few, positives=250, negatives=600), 2)["in use"] == 1


def test_its_cases_are_printed(capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.equivalence.CASES", [])
    main(["1"])
    assert "auroc, 12/12" in capsys.readouterr().out
