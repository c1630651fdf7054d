"""How numbers are written."""

import pandas as pd
import pytest

from analysis.number_format import (
    counted,
    interval,
    mean_and_deviation,
    p_text,
    ranged,
    score,
    share,
    signed,
    strategy,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [(NAN, NAN, "0.500"), (0.5, 0.5, "0.500"), (0.456, 0.567, "0.500 (0.46 to 0.57)")],
)
def test_an_interval_that_is_missing_or_a_point_is_not_written(low, high, written):
    row = pd.Series({"value": 0.5, "low": low, "high": high})
    assert ranged(row) == written
    assert interval(row) == written[7:-1]


def test_numbers_are_written_as_they_are_read():
    assert [p_text(p) for p in (0.0001, 0.0123, 0.4)] == ["p < 0.001", "p = 0.012", "p = 0.40"]
    assert [signed(x) for x in (0.01, -0.01, -1e-5)] == ["+0.010", "−0.010", "0.000"]
    assert [score(x) for x in (0.5, -0.003)] == ["0.500", "−0.003"]
    assert interval(pd.Series({"low": -0.104, "high": 0.095})) == "−0.10 to 0.10"
    assert [counted(n, "patient") for n in (0, 1, 1194)] == ["0 patients", "1 patient", "1,194 patients"]


def test_a_number_that_does_not_exist_is_a_dash():
    assert score(NAN) == share(0, 0) == mean_and_deviation([]) == mean_and_deviation([0.5]) == "–"
    assert [score(7.704, 2), share(3, 96), mean_and_deviation([0.4, 0.6])] == [
        "7.70",
        "3.1%",
        "0.500 ± 0.141",
    ]


def test_only_fitted_thresholds_are_called_fitted():
    assert strategy("per_label") == "per label, fitted on validation"
    assert strategy("fixed") == "fixed at 0.5"
