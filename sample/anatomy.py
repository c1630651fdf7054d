"""What a film shows: a patient's body, the pose in which it was taken, and the findings in it.

Coordinates, here and in the drawing: the body's own, in units of half the image side, origin in the middle of
the chest, x to the right of the image (the patient's left), y downwards. A `Pose` carries them to the film.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sample.appearance import Appearance

LEFT, RIGHT, BOTH = "left", "right", "bilateral"
SIDES = {RIGHT: -1, LEFT: 1}
ZONES = {"upper": -0.40, "middle": -0.08, "lower": 0.24}
"""Height of the middle of each lung zone, in body coordinates."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """One patient's anatomy, the same on all of his or her films."""

    sex: str
    age: int
    chest_width: float
    apex: float
    dome_right: float
    dome_left: float
    habitus: float
    heart_width: float
    aorta: float
    rib_slope: float
    rib_contrast: float
    vessel_contrast: float
    gastric_bubble: float
    seed: int
    """Of what has no parameter: vessels, bubble, texture."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How one film was taken."""

    view: str
    """`PA`, or `AP` for a portable film: larger heart, higher diaphragm, flatter image."""

    rotation: float
    scale: float
    shift_x: float
    shift_y: float
    obliquity: float
    """Shift of the mediastinum against the spine by a turn about the long axis, in half image sides."""

    inspiration: float
    """Shift of the diaphragm, positive downwards."""

    exposure: float
    gamma: float
    scatter: float
    blur: float
    noise: float
    collimation: float
    """Width of the dark border in half image sides, 0 for none."""

    marker: str
    """Laterality mark: `L` or `R`."""

    seed: int
    """Of noise and texture."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding of a patient."""

    side: str = ""
    """`left`, `right`, `bilateral`, or empty."""

    zone: str = ""
    """`upper`, `middle`, `lower`, or empty."""

    kind: str = ""
    """The form it takes, as `plate` or `lobar` of an atelectasis; see the drawing functions."""

    severity: float = 0.5
    """0 hardly visible, 1 unmistakable: size and contrast."""

    seed: int = 0
    """Of its place and shape: the same on all films of the patient."""


KINDS: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("plate", "plate", "lobar"),
    "Pleural Effusion": ("meniscus", "meniscus", "layering"),
    "Pleural Other": ("thickening", "apical cap", "plaque"),
    "Fracture": ("rib", "rib", "clavicle"),
    "Support Devices": ("central line", "pacemaker", "tubes", "sternal wires", "chest drain"),
    "Consolidation": ("lobar", "patchy"),
}
"""Forms of a finding, drawn with equal probability; what stands twice is twice as frequent."""


def draw_body(rng: np.random.Generator, appearance: Appearance, sex: str, age: int) -> Body:
    """A patient's anatomy. Women have smaller chests and breasts, age widens heart and aorta."""
    small = 0.03 if sex == "F" else 0.0
    length = rng.uniform(*appearance.chest_length)
    dome = 0.44 * length + rng.uniform(-0.03, 0.03) - small / 2
    return Body(
        sex=sex,
        age=age,
        chest_width=rng.uniform(*appearance.chest_width) - small,
        apex=-0.74 * length + rng.uniform(-0.02, 0.02),
        dome_right=dome,
        dome_left=dome + rng.uniform(0.01, 0.06),
        habitus=rng.uniform(*appearance.habitus),
        heart_width=rng.uniform(*appearance.heart_width) + 0.0015 * (age - 50),
        aorta=rng.uniform(0.6, 1.2) + 0.012 * max(age - 45, 0),
        rib_slope=rng.uniform(*appearance.rib_slope),
        rib_contrast=rng.uniform(*appearance.rib_contrast) * (1.0 - 0.004 * max(age - 50, 0)),
        vessel_contrast=rng.uniform(*appearance.vessel_contrast),
        gastric_bubble=rng.choice([0.0, 1.0], p=[0.3, 0.7]) * rng.uniform(0.4, 1.0),
        seed=int(rng.integers(2**31)),
    )


def draw_pose(rng: np.random.Generator, appearance: Appearance, view: str) -> Pose:
    """How a film is taken. A portable film is tilted more and veiled by more scatter."""
    portable = view == "AP"
    looseness = 1.3 if portable else 1.0
    return Pose(
        view=view,
        rotation=rng.uniform(*appearance.rotation) * looseness,
        scale=rng.uniform(*appearance.scale) * (1.04 if portable else 1.0),
        shift_x=rng.uniform(-1, 1) * appearance.shift * looseness,
        shift_y=rng.uniform(-1, 1) * appearance.shift * looseness,
        obliquity=rng.normal(0, 0.012) * looseness,
        inspiration=rng.normal(-0.06 if portable else 0.0, 0.03),
        exposure=rng.uniform(*appearance.exposure),
        gamma=rng.uniform(*appearance.gamma),
        scatter=rng.uniform(*appearance.scatter) + (0.12 if portable else 0.0),
        blur=rng.uniform(*appearance.blur) * looseness,
        noise=rng.uniform(*appearance.noise) * looseness,
        collimation=rng.uniform(0.02, 0.09) if rng.random() < appearance.collimated else 0.0,
        marker=str(rng.choice(["L", "R"])),
        seed=int(rng.integers(2**31)),
    )
