"""What differs between hospitals: the distribution from which bodies and films are drawn."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]
"""Lowest and highest value; drawn uniformly between them."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """The distribution from which bodies and films are drawn: what differs between hospitals."""

    chest_width: Range
    """Half width of the rib cage at its widest, in half image sides."""

    chest_length: Range
    """Factor on the height of the lungs."""

    habitus: Range
    """Factor on the soft tissue that the ray crosses."""

    heart_width: Range
    """Factor on the heart's normal width."""

    rib_slope: Range
    """How far a rib falls from the spine to its anterior end, as a factor."""

    rib_contrast: Range
    """Attenuation of a rib."""

    vessel_contrast: Range
    """Attenuation of the pulmonary vessels."""

    rotation: Range
    """Tilt of the body on the film, in degrees."""

    scale: Range
    """Magnification."""

    shift: float
    """Largest displacement of the body from the middle of the film, in half image sides."""

    exposure: Range
    """Steepness of the film curve: the higher, the whiter the mediastinum."""

    gamma: Range
    """Exponent of the gray values, below 1 for bright films."""

    scatter: Range
    """Share of the image that is a veil of scattered radiation, which flattens it."""

    blur: Range
    """Standard deviation of the detector's blur, in pixels of a film of 128."""

    noise: Range
    """Standard deviation of the noise, in shares of the gray range."""

    collimated: float
    """Probability that the collimator's edge lies on the film."""


SAMPLE = Appearance(
    chest_width=(0.69, 0.81),
    chest_length=(0.92, 1.08),
    habitus=(0.85, 1.2),
    heart_width=(0.86, 1.12),
    rib_slope=(0.8, 1.2),
    rib_contrast=(0.10, 0.19),
    vessel_contrast=(0.16, 0.30),
    rotation=(-4.0, 4.0),
    scale=(0.92, 1.08),
    shift=0.06,
    exposure=(1.5, 2.4),
    gamma=(0.85, 1.25),
    scatter=(0.05, 0.3),
    blur=(0.35, 0.7),
    noise=(0.006, 0.016),
    collimated=0.25,
)
"""Of the embedded sample."""

TRAINING = Appearance(
    chest_width=(0.64, 0.76),
    chest_length=(0.88, 1.02),
    habitus=(0.75, 1.05),
    heart_width=(0.90, 1.18),
    rib_slope=(0.6, 1.0),
    rib_contrast=(0.05, 0.13),
    vessel_contrast=(0.10, 0.22),
    rotation=(-7.0, 7.0),
    scale=(0.84, 1.0),
    shift=0.10,
    exposure=(1.0, 1.7),
    gamma=(0.7, 1.05),
    scatter=(0.2, 0.5),
    blur=(0.6, 1.1),
    noise=(0.012, 0.028),
    collimated=0.0,
)
"""Of the films that `phantom-clip` is trained on: another hospital, flatter, noisier and brighter."""
