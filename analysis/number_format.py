"""How numbers are written on the page, on the card and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

NONE = "–"
"""In place of a number that does not exist."""


def score(value: float, digits: int = 3) -> str:
    """`0.731`, or `−0.012` with a true minus sign, as kappa may be."""
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else NONE


def interval(row: pd.Series) -> str:
    """`0.66 to 0.79` of a row of `test_scores.csv`; empty where there is no interval, or where it is a point,
    as that of a constant predictor is."""
    if not row["high"] - row["low"] > 1e-6:
        return ""
    return f"{score(row['low'], 2)} to {score(row['high'], 2)}"


def ranged(row: pd.Series) -> str:
    """`0.731 (0.66 to 0.79)`; the value alone where `interval` is empty."""
    ends = interval(row)
    return f"{score(row['value'])} ({ends})" if ends else score(row["value"])


def signed(value: float) -> str:
    """`+0.012` or `−0.012`, with a true minus sign; `0.000` has none."""
    text = f"{value:+.3f}".replace("-", "−")
    return text[1:] if text[1:] == "0.000" else text


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def share(part: int, whole: int) -> str:
    """`3.1%`."""
    return f"{part / whole:.1%}" if whole else NONE


def counted(number: int, what: str) -> str:
    """`1 patient`, `1,194 patients`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def strategy(name: str, *, multiclass: bool = False) -> str:
    """A threshold strategy in words."""
    if multiclass and name == "fixed":
        return "fixed, the most probable label"
    return "fixed at 0.5" if name == "fixed" else f"{name.replace('_', ' ')}, fitted on validation"


def mean_and_deviation(values: Sequence[float]) -> str:
    """`0.512 ± 0.004`, the deviation that of a sample; of fewer than two values there is none."""
    if len(values) < 2:
        return NONE
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
