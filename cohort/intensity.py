"""Which values of a 16-bit gray image become black and white: one rule per cohort, never an image's own.

Shape legend: H height, W width, V the 65,536 values of 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cohort.errors import InputError

VALUES = 2**16
RULES = "full, window:LOW,HIGH, percentiles:LOW,HIGH, or for DICOM voi:NAME or voi:CENTER,WIDTH"
LONGEST_NAME = 64
"""Characters of a window's name: DICOM's own limit."""

# Bit depths that detectors and exporters use; exporters write 12-bit detectors into 16-bit files unstretched.
_BIT_DEPTHS = (8, 10, 12, 14, 16)
# A film whose brightest hundredth lies below this share of its range comes out nearly black.
_DARK = 1 / 8


@dataclass(frozen=True)
class Intensity:
    """Values of 16-bit gray from `low` to `high` go linearly to 0..255, rounded; others are clipped."""

    low: int
    high: int

    rule: str
    """Where the two come from, one of `RULES`."""

    def __post_init__(self) -> None:
        parse_rule(self.rule)
        if not (type(self.low) is type(self.high) is int and 0 <= self.low < self.high < VALUES):
            raise InputError(
                f"intensity must go from a whole number to a higher one, both in 0..{VALUES - 1}, "
                f"got {self.low!r} to {self.high!r}"
            )

    @property
    def voi(self) -> str:
        """The window that DICOM files are shown in, `NAME` or `CENTER,WIDTH`; "" for the first of each."""
        return voi_of(self.rule)

    def to_8_bit(self, image_HW: np.ndarray) -> np.ndarray:
        """uint8 (H, W) of uint16 (H, W)."""
        width = self.high - self.low
        above_HW = np.clip(image_HW, self.low, self.high).astype(np.uint32) - self.low
        return ((above_HW * 255 + width // 2) // width).astype(np.uint8)

    def to_dict(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "rule": self.rule}

    def described(self) -> str:
        """`0 to 4095 become black to white (full)`."""
        return f"{self.low} to {self.high} become black to white ({self.rule})"


def parse_rule(rule: str) -> tuple[str, float, float]:
    """(`full`, `window` or `percentiles`, low, high) of one of `RULES`; InputError for anything else. The
    window of DICOM files leaves other 16-bit gray to `full`."""
    if rule == "full" or voi_of(rule):
        return "full", 0, 100
    kind, _, bounds = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    highest = {"window": VALUES - 1, "percentiles": 100}.get(kind)
    try:
        low, high = (float(bound) for bound in bounds.split(","))
    except ValueError:
        low = high = np.nan
    if highest is None or not 0 <= low < high <= highest:
        raise InputError(
            f"intensity must be {RULES}, values in 0..{VALUES - 1} and percentiles in 0..100, got {rule!r}"
        )
    if kind == "window" and not low.is_integer() & high.is_integer():
        raise InputError(f"intensity: a window goes from a whole number to another, got {rule!r}")
    return kind, low, high


def voi_of(rule: str) -> str:
    """What stands behind `voi:`; "" in any other rule."""
    if not isinstance(rule, str) or not rule.startswith("voi:"):
        return ""
    voi = rule.removeprefix("voi:").strip()
    return voi if len(voi) <= LONGEST_NAME and voi.isprintable() else ""


def find_intensity(rule: str, counts_V: np.ndarray) -> Intensity:
    """The intensity that a rule gives for a cohort.

    `full` goes from 0 to the full scale of the smallest of 8, 10, 12, 14 and 16 bits that holds the brightest
    value, as do those values that a rule for DICOM's windows leaves; `percentiles` from the smallest value
    that LOW % of all pixels do not exceed to that of HIGH %
    (Hyndman and Fan's first definition). `counts_V` (int64) says in how many pixels each value occurs.

    Raises InputError for an unknown rule, and where both percentiles are one value.
    """
    kind, low, high = parse_rule(rule)
    if kind == "window":
        return Intensity(int(low), int(high), rule)
    if kind == "full":
        brightest = int(np.flatnonzero(counts_V)[-1]) if counts_V.any() else VALUES - 1
        bits = next(bits for bits in _BIT_DEPTHS if brightest < 2**bits)
        return Intensity(0, 2**bits - 1, rule)
    darkest, brightest = _percentile(counts_V, low), _percentile(counts_V, high)
    if darkest == brightest:
        raise InputError(
            f"intensity {rule}: both percentiles of the 16-bit images are {darkest}; give wider ones or a "
            "window"
        )
    return Intensity(darkest, brightest, rule)


def little_contrast(intensity: Intensity, counts_V: np.ndarray) -> str:
    """A warning where the full scale leaves nearly all pixels dark, as after a burnt-in marker, or of nearly
    one gray, as of signed values without a window; or ""."""
    if parse_rule(intensity.rule)[0] != "full" or not counts_V.any():
        return ""
    darkest, brightest = _percentile(counts_V, 1), _percentile(counts_V, 99)
    if brightest < _DARK * intensity.high:
        return (
            f"99 % of the 16-bit pixels are at most {brightest}, and white is {intensity.high}: these images "
            "come out nearly black; consider --intensity percentiles:0.5,99.5"
        )
    if brightest - darkest < _DARK * intensity.high:
        return (
            f"98 % of the 16-bit pixels lie from {darkest} to {brightest}, and white is {intensity.high}: "
            "these images come out in nearly one gray; consider --intensity percentiles:0.5,99.5, or "
            "voi:CENTER,WIDTH for DICOM"
        )
    return ""


def _percentile(counts_V: np.ndarray, percent: float) -> int:
    up_to_V = np.cumsum(counts_V)
    return int(np.searchsorted(up_to_V, max(1, percent / 100 * up_to_V[-1])))
