"""The simulation of coverage runs on its own cases, made small."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import interval_coverage
from benchmarks.interval_coverage import AVERAGES, LABELS, Classes, OneLabel, coverage, main


def test_every_kind_of_case_gives_a_line_a_metric(monkeypatch):
    monkeypatch.setattr(interval_coverage, "RESAMPLES", 50)
    for case in (LABELS[-3], replace(AVERAGES[2], counts=(20, 12)), AVERAGES[-1]):
        rows = list(coverage(case, repeats=5, seed=0, splits=5, big=2000))
        assert len({name for name, *_ in rows}) == len(rows) > 6
        for _, truth, used, plain, width in rows:
            assert np.isfinite(truth) and 0 <= used <= 100 and width > 0
            assert np.isnan(plain) or 0 <= plain <= 100


def test_the_cases_have_few_negatives_clusters_and_multiclass_labels():
    labels = [case for case in LABELS if isinstance(case, OneLabel)]
    assert min(case.negatives for case in labels) == 10 and min(case.positives for case in labels) == 10
    assert any(case.images == "1 to 10" for case in labels)
    assert any(isinstance(case, Classes) and case.images == "1 to 10" for case in AVERAGES)


def test_a_patient_has_as_many_images_as_the_case_says():
    case = OneLabel(positives=300, negatives=700, shift=1.0, images="1 to 10")
    drawn, rows_N = case(1, np.random.default_rng(0))
    images_P = np.bincount(rows_N)
    assert (images_P.min(), images_P.max()) == (1, 10) and images_P.mean() == pytest.approx(5.5, abs=0.3)
    sick_P = np.bincount(rows_N, weights=drawn.targets_NC[:, 0]) > 0
    assert sick_P.mean() == pytest.approx(0.3, abs=0.06)


def test_every_case_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(interval_coverage, "RESAMPLES", 20)
    main(["1", "--splits", "2", "--truth-from", "2000"])
    printed = capsys.readouterr().out
    assert all(f"{case}:\n" in printed for case in (*LABELS, *AVERAGES))
