"""Draw one frontal chest radiograph phantom with its findings and their masks.

A film is composed the way a projection is: what lies in a ray adds up. Soft tissue, bone, vessels, fluid and
metal add attenuation, air in the lungs takes it away, and a saturating film curve with noise turns the sum
into gray values, bright where much is absorbed. Nothing here is a simulation of X-rays; it is a drawing that
resembles a chest film at a glance, so that a pipeline can be exercised without patients.

Coordinates: the body's own, in units of half the image side, origin in the middle of the chest, x to the
right of the image (the patient's left), y downwards. A `Pose` carries them to the film.

Shape legend: H height, W width (both `size`), P points of a curve, R ribs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.special import expit

from cohort.labels import CHEXPERT_14

Range = tuple[float, float]
"""Lowest and highest value; drawn uniformly between them."""

LEFT, RIGHT, BOTH = "left", "right", "bilateral"
SIDES = {RIGHT: -1, LEFT: 1}
ZONES = {"upper": -0.40, "middle": -0.08, "lower": 0.24}
"""Height of the middle of each lung zone, in body coordinates."""

_RIBS = 11


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


def draw_radiograph(
    body: Body, pose: Pose, findings: Mapping[str, Finding], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a film of `size` x `size` pixels.

    `findings` are keyed by label of `CHEXPERT_14`. Returns the image (uint8, H x W) and the masks (uint16,
    H x W), in which bit c is set where `CHEXPERT_14[c]` is to be seen. Findings that are lung opacities by
    nature (edema, consolidation, pneumonia) set the bit of Lung Opacity too. ValueError for other labels.
    """
    unknown = [label for label in findings if label not in _DRAWN]
    if unknown:
        raise ValueError(f"findings must be among {', '.join(_DRAWN)}, got {unknown[0]!r}")
    film = _Film(body, pose, findings, size)
    for label, draw in _DRAWN.items():
        if label in findings:
            draw(film, findings[label])
    return film.develop(), film.masks_HW


# --------------------------------------------------------------------------------------------- the anatomy


class _Film:
    """A film while it is drawn: what each structure adds to or takes from the attenuation.

    Findings that move anatomy (a large heart, a raised diaphragm) are read by the geometry, the others change
    `air_HW`, `added_HW` and `vessels_HW` before `develop` sums everything up.
    """

    def __init__(self, body: Body, pose: Pose, findings: Mapping[str, Finding], size: int) -> None:
        self.body, self.pose, self.findings, self.size = body, pose, findings, size
        self.texture = np.random.default_rng(pose.seed)
        self.oversampling = max(1, round(384 / size))
        self.masks_HW = np.zeros((size, size), dtype=np.uint16)

        turn = np.deg2rad(pose.rotation)
        self._to_film = pose.scale * np.array(
            [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], dtype=np.float32
        )
        self._shift = np.array([pose.shift_x, pose.shift_y], dtype=np.float32)
        steps = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        self.film_x_HW, self.film_y_HW = np.meshgrid(steps, steps)
        (a, b), (c, d) = np.linalg.inv(self._to_film)
        u_HW, v_HW = self.film_x_HW - self._shift[0], self.film_y_HW - self._shift[1]
        self.x_HW = (a * u_HW + b * v_HW).astype(np.float32)
        self.y_HW = (c * u_HW + d * v_HW).astype(np.float32)
        # The narrowest edge that this film can show.
        self.edge = 0.5 * 2 / size / pose.scale

        self._set_geometry()
        self.air_HW = self.right_HW + self.left_HW
        self.added_HW = np.zeros((size, size), dtype=np.float32)
        self.vessels_HW = self._vessels()

    def _set_geometry(self) -> None:
        """Cage, diaphragm and cardiomediastinal silhouette, with what findings do to them."""
        body, pose = self.body, self.pose
        heart = body.heart_width * (1.08 if pose.view == "AP" else 1.0)
        if (finding := self.findings.get("Cardiomegaly")) is not None:
            heart *= 1.12 + 0.42 * finding.severity
        wide = 0.0
        if (finding := self.findings.get("Enlarged Cardiomediastinum")) is not None:
            wide = 0.025 + 0.075 * finding.severity
        self.shift = pose.obliquity
        self.domes = {
            RIGHT: body.dome_right + pose.inspiration,
            LEFT: body.dome_left + pose.inspiration,
        }
        finding = self.findings.get("Atelectasis")
        if finding is not None and finding.kind == "lobar":
            # Volume loss draws the mediastinum to its side and the diaphragm up.
            self.shift += SIDES[finding.side] * (0.02 + 0.06 * finding.severity)
            self.domes[finding.side] -= 0.04 + 0.10 * finding.severity

        x, y = np.abs(self.x_HW), self.y_HW
        self.wall_HW = self.cage_half_width(y) - x
        """Distance to the chest wall, positive inside."""
        inner = 0.26 - 0.18 * np.sqrt(np.clip((y - body.apex) / 0.16, 0, 1))
        within = np.minimum(self.wall_HW, np.minimum(x - inner, (y - body.apex) * 1.5))

        level = self.domes[RIGHT] + 0.05
        ys = np.array([-1.2, -0.6, -0.42, -0.3, -0.2, -0.08, 0.1, 0.26, 0.38, 0.48, 0.7, 1.2])
        ys = np.where(ys > -0.25, -0.25 + (ys + 0.25) * (level + 0.25) / 0.73, ys)
        knob = 0.03 * body.aorta
        left = np.array([0.09, 0.095, 0.118, 0.115, 0.13, 0.16, 0.27, 0.37, 0.42, 0.42, 0.32, 0.3])
        left[6:] = 0.14 + (left[6:] - 0.14) * (1 + 2.0 * (heart - 1))
        left += np.array([0, 0.1, 1, 0.35, 0, 0, 0, 0, 0, 0, 0, 0]) * knob
        right = np.array([0.09, 0.10, 0.105, 0.11, 0.12, 0.14, 0.185, 0.205, 0.20, 0.17, 0.13, 0.12])
        right[5:] *= 1 + 0.8 * (heart - 1)
        broad = wide * np.array([0.1, 0.7, 1, 1, 0.9, 0.5, 0.1, 0, 0, 0, 0, 0])
        grid = np.linspace(-1.3, 1.3, 400, dtype=np.float32)
        self._left_border = grid, PchipInterpolator(ys, left + broad)(np.clip(grid, -1.2, 1.2))
        self._right_border = grid, PchipInterpolator(ys, right + broad)(np.clip(grid, -1.2, 1.2))
        centred = self.x_HW - self.shift * np.clip((y + 0.7) / 0.5, 0, 1)
        self.inside_heart_HW = np.minimum(
            np.interp(y, *self._left_border).astype(np.float32) - centred,
            np.interp(y, *self._right_border).astype(np.float32) + centred,
        )
        self.silhouette_HW = self._fill(self.inside_heart_HW, 0.012)

        self.right_HW = self._lung(within, RIGHT)
        self.left_HW = self._lung(within, LEFT)

    def cage_half_width(self, y: np.ndarray) -> np.ndarray:
        """Inner half width of the rib cage at a height."""
        t = np.clip((y - self.body.apex) / (0.62 - self.body.apex), 0, 1.3)
        width = 0.26 + (self.body.chest_width - 0.26) * (1 - np.abs(1 - t) ** 2.5) ** 0.56
        return np.where(t > 1, self.body.chest_width, width).astype(np.float32)

    def dome(self, x: np.ndarray, side: str) -> np.ndarray:
        """Height of the diaphragm, falling from its dome to the costophrenic and cardiophrenic angles."""
        u = (np.abs(x) - 0.30) / (self.body.chest_width - 0.30)
        lateral = 0.23 * np.clip(u, 0, 1.2) ** 2.2
        return self.domes[side] + lateral + 0.30 * np.clip(-u, 0, 1) ** 2

    def _lung(self, within_HW: np.ndarray, side: str) -> np.ndarray:
        """How much of the ray through one lung is air, 0 to 1: less towards the borders."""
        depth = np.minimum(within_HW, self.dome(self.x_HW, side) - self.y_HW)
        depth = np.where(np.sign(self.x_HW) == SIDES[side], depth, -1.0)
        thick = 1 - np.exp(-np.clip(depth, 0, None) / 0.10)
        lung = self._fill(depth, 0.006) * (0.62 + 0.38 * thick)
        # Lung in front of and behind the heart shines through it.
        return lung * (1 - 0.86 * self.silhouette_HW)

    def lung(self, side: str) -> np.ndarray:
        """Air of one lung, or of both, before findings."""
        return {RIGHT: self.right_HW, LEFT: self.left_HW, BOTH: self.right_HW + self.left_HW}[side]

    def hilum(self, side: str) -> np.ndarray:
        return np.array([SIDES[side] * 0.17 + self.shift, -0.08 - (0.03 if side == LEFT else 0.0)])

    def mark(self, label: str, where_HW: np.ndarray) -> None:
        """Set the label's bit in the masks."""
        self.masks_HW[where_HW] |= np.uint16(1 << CHEXPERT_14.index(label))

    # ------------------------------------------------------------------------------------- brushes

    def _fill(self, depth_HW: np.ndarray, softness: float) -> np.ndarray:
        """1 inside (positive depth), 0 outside, over an edge of a given softness."""
        return expit(depth_HW / max(softness, self.edge))

    def noise(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth noise with about `cells` bumps along a side, standard deviation near 0.6."""
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        return np.asarray(Image.fromarray(coarse).resize((self.size, self.size), Image.Resampling.BICUBIC))

    def cloud(self, rng: np.random.Generator, x: float, y: float, radius: float) -> np.ndarray:
        """An ill-defined patch, 0 to 1: a few overlapping spots, broken up by noise."""
        field = np.zeros_like(self.x_HW)
        for _ in range(4):
            dx, dy = rng.normal(0, 0.45 * radius, 2)
            a, b = radius * rng.uniform(0.5, 1.0, 2)
            spot = ((self.x_HW - x - dx) / a) ** 2 + ((self.y_HW - y - dy) / b) ** 2
            field = np.maximum(field, np.exp(-spot))
        return np.clip(field * (0.9 + 0.25 * self.noise(rng, 18)), 0, 1)

    def canvas(self) -> _Canvas:
        return _Canvas(self)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Body coordinates (..., 2) to pixels of an oversampled canvas."""
        film = np.asarray(points, dtype=np.float32) @ self._to_film.T + self._shift
        return (film + 1) * (0.5 * self.size * self.oversampling)

    @property
    def pixels_per_unit(self) -> float:
        return 0.5 * self.size * self.oversampling * self.pose.scale

    # ------------------------------------------------------------------------------------- structures

    def _vessels(self) -> np.ndarray:
        """Pulmonary vessels: trees that leave the hila, branch and taper; larger at the bases."""
        rng = np.random.default_rng(self.body.seed)
        canvas = self.canvas()
        congested = self.findings.get("Edema")
        gain = 1.0 if congested is None else 1.15 + 0.35 * congested.severity
        for side, sign in SIDES.items():
            angles = np.linspace(-1.2, 1.45, 8) + rng.normal(0, 0.18, 8)
            start = self.hilum(side) + rng.normal(0, 0.03, (8, 2)) * (1, 2)
            width = rng.uniform(0.016, 0.030, 8) * (1 + 0.35 * (angles > 0)) * gain
            for generation in range(5):
                length = rng.uniform(0.06, 0.16, len(angles)) * 0.95**generation
                ends = start + length[:, None] * np.stack([sign * np.cos(angles), np.sin(angles)], axis=1)
                bend = (start + ends) / 2 + rng.normal(0, 0.014, start.shape)
                level = np.clip(25 + 6000 * width, 30, 210)
                canvas.lines(np.stack([start, bend, ends], axis=1), width, level)
                fork = rng.uniform(0.2, 0.55, len(angles))
                start = np.repeat(ends, 2, axis=0)
                angles = np.stack(
                    [angles - fork, angles + rng.uniform(0.1, 0.5, len(angles))], axis=1
                ).ravel()
                # Vessels bend back towards the direction away from the hilum.
                away = np.arctan2(
                    start[:, 1] - self.hilum(side)[1], np.abs(start[:, 0] - self.hilum(side)[0])
                )
                angles = 0.65 * angles + 0.35 * away
                width = np.repeat(width, 2) * rng.uniform(0.58, 0.78, len(angles))
        return canvas.paint()

    @cached_property
    def ribs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior parts (R, P, 2) from the spine outwards, anterior parts (R, P, 2) on from there, and half
        widths (R,) of the ribs: right and left of the first, right and left of the second, and so on.

        A rib is half an ellipse in a plane that slopes down towards the front, seen from the front.
        """
        body = self.body
        number_R = np.repeat(np.arange(_RIBS), 2)
        spacing = (self.domes[RIGHT] - self.pose.inspiration - body.apex) / 8.2
        top_R1 = (body.apex - 0.05 + spacing * number_R)[:, None]
        fall_R1 = (body.rib_slope * (0.20 + 0.035 * np.minimum(number_R, 7)))[:, None]
        width_R1 = self.cage_half_width(top_R1 + fall_R1 / 2) + 0.012
        sign_R1 = np.tile(list(SIDES.values()), _RIBS)[:, None]

        def arc(angle_P: np.ndarray) -> np.ndarray:
            x_RP = sign_R1 * (0.05 + (width_R1 - 0.05) * np.sin(angle_P) ** 0.9)
            y_RP = top_R1 + fall_R1 * (1 - np.cos(angle_P)) / 2 - 0.035 * np.sin(2 * angle_P)
            return np.stack([x_RP, y_RP], axis=-1)

        posterior, anterior = arc(np.linspace(0.10, np.pi / 2, 18)), arc(np.linspace(np.pi / 2, 2.62, 16))
        return posterior, anterior, 0.021 + 0.0012 * np.minimum(number_R, 5)

    def _ribs(self) -> np.ndarray:
        """Attenuation of the ribs, relative: posterior parts stronger than anterior ones, bright cortex."""
        posterior, anterior, half_R = self.ribs
        behind, front = self.canvas(), self.canvas()
        whole = np.array([r not in self.broken_ribs for r in range(len(half_R))])
        pieces = [(posterior[whole], half_R[whole])]
        for r, (at, offset) in self.broken_ribs.items():
            pieces += [(posterior[r : r + 1, : at + 1], half_R[r : r + 1])]
            pieces += [(posterior[r : r + 1, at + 1 :] + offset, half_R[r : r + 1])]
        for curves, half in pieces:
            behind.bands(curves, half, 175)
        for curves, half in pieces:
            behind.bands(curves, 0.55 * half, 110)
        visible = slice(0, 16)  # the anterior parts of the lower ribs lie below the diaphragm
        front.bands(anterior[visible], 1.15 * half_R[visible], 105)
        front.bands(anterior[visible], 0.75 * half_R[visible], 70)
        return behind.paint() + front.paint()

    @cached_property
    def broken_ribs(self) -> dict[int, tuple[int, np.ndarray]]:
        """Position in `ribs` -> at which point its posterior part is broken, and how far it is displaced."""
        finding = self.findings.get("Fracture")
        if finding is None or finding.kind != "rib":
            return {}
        rng = np.random.default_rng(finding.seed)
        first = {"upper": 2, "middle": 4, "lower": 5}[finding.zone]
        count = 1 + round(2 * finding.severity * rng.uniform(0.3, 1.0))
        at = int(rng.integers(8, 13))
        offset = np.array([SIDES[finding.side] * 0.015, 0.030 + 0.035 * finding.severity])
        side = list(SIDES).index(finding.side)
        return {2 * (first + k) + side: (at, offset) for k in range(count)}

    def clavicles(self) -> dict[str, np.ndarray]:
        """Side -> P x 2: from the sternum outwards and up to the shoulder."""
        x = np.array([0.07, 0.2, 0.36, 0.54, 0.7, 0.84])
        y = self.body.apex + np.array([0.17, 0.135, 0.07, 0.03, 0.01, 0.03])
        u = np.linspace(0, 1, 24)
        at = np.linspace(0, 1, len(x))
        line = np.stack([PchipInterpolator(at, x)(u), PchipInterpolator(at, y)(u)], axis=1)
        turned = self.pose.obliquity * 1.5
        return {side: line * (sign, 1) + (turned, 0) for side, sign in SIDES.items()}

    def _shoulders(self) -> np.ndarray:
        """Clavicles, scapulae and humeral heads, relative attenuation."""
        canvas = self.canvas()
        apart = 0.0 if self.pose.view == "AP" else 0.07  # arms forward move the scapulae off the lungs
        finding = self.findings.get("Fracture")
        for side, sign in SIDES.items():
            blade = np.array(
                [(0.62, -0.52), (0.90, -0.62), (0.94, -0.50), (0.86, -0.25), (0.80, 0.02), (0.70, -0.02)]
            )
            canvas.polygon(np.add(blade, (apart, 0)) * (sign, 1), 55)
            canvas.line(np.add(blade[2:5], (apart, 0)) * (sign, 1), 0.030, 105)
            canvas.line(np.add(blade[:2], (apart, 0)) * (sign, 1), 0.030, 110)
            canvas.disc(np.array([sign * (1.02 + apart), -0.55]), 0.12, 105)
            canvas.line(np.array([(sign * (1.0 + apart), -0.5), (sign * (1.10 + 2 * apart), 0.3)]), 0.11, 105)
            clavicle = self.clavicles()[side]
            parts = [clavicle]
            if finding is not None and finding.kind == "clavicle" and finding.side == side:
                drop = np.array([-sign * 0.03, 0.035 + 0.05 * finding.severity])
                parts = [clavicle[:13], clavicle[12:] + drop]
            for part in parts:
                canvas.bands(part[None], np.array([0.028]), 235)
                canvas.bands(part[None], np.array([0.014]), 170)
        return canvas.paint()

    def _spine(self) -> np.ndarray:
        """Vertebral bodies with discs between them, pedicles and spinous processes."""
        y = self.y_HW
        pitch = 0.115
        phase = (y / pitch) % 1.0
        body = self._fill(0.095 + 0.012 * np.cos(2 * np.pi * phase) - np.abs(self.x_HW), 0.008)
        disc = np.exp(-(((phase - 0.5) / 0.10) ** 2))
        canvas = self.canvas()
        for k in range(-9, 10):
            for sign in (-1, 1):
                canvas.disc(np.array([sign * 0.058, k * pitch]), 0.017, 110)
            canvas.line(np.array([(0, k * pitch - 0.02), (0, k * pitch + 0.035)]), 0.02, 90)
        return body * (1 - 0.35 * disc) + canvas.paint()

    def _soft_tissue(self) -> np.ndarray:
        """Thickness of the body along the ray, 0 in the air around it."""
        body, x, y = self.body, np.abs(self.x_HW), self.y_HW
        heights = [-1.4, -0.98, -0.9, -0.82, -0.72, -0.6, -0.35, -0.1, 0.3, 0.8, 1.4]
        widths = np.array([0.27, 0.27, 0.32, 0.50, 0.88, 1.04, 1.04, 0.96, 0.93, 0.93, 0.95])
        girth = body.chest_width / 0.74 * (0.6 + 0.4 * body.habitus)
        widths[3:] *= girth
        half = np.interp(y - (body.apex + 0.74), heights, widths).astype(np.float32)
        inside = half - x
        trunk = self._fill(inside, 0.008) * np.clip(1.2 * inside / half + 0.12, 0, 1) ** 0.6
        # Arms: along the body on a portable film, turned outwards otherwise.
        hand = 1.12 if self.pose.view == "AP" else 1.45
        axis = 1.08 * girth + (hand - 1.08) * (y + 0.5) / 1.2
        arm = np.sqrt(np.clip(1 - ((x - axis) / 0.20) ** 2, 0, 1)) * self._fill(y + 0.55, 0.06)
        thick = np.maximum(trunk, 0.75 * arm)
        thick += 0.10 * self._fill(y - 0.55, 0.12)  # liver and bowel
        if body.sex == "F":
            rng = np.random.default_rng(body.seed + 1)
            low, radius = rng.uniform(0.10, 0.26), rng.uniform(0.22, 0.32)
            r = np.hypot((x - 0.40) / 1.15, np.where(y > low, y - low, (y - low) * 0.55)) / radius
            thick += 0.22 * body.habitus * np.sqrt(np.clip(1 - r**2, 0, 1))
        return thick * body.habitus

    def _abdominal_gas(self) -> np.ndarray:
        """Gastric bubble below the left dome, and a loop of bowel."""
        if self.body.gastric_bubble == 0:
            return np.zeros_like(self.x_HW)
        rng = np.random.default_rng(self.body.seed + 2)
        x0, radius = rng.uniform(0.26, 0.42), 0.06 + 0.08 * self.body.gastric_bubble
        y0 = self.domes[LEFT] + 0.05 + 0.55 * radius
        r = np.hypot((self.x_HW - x0) / (radius * 1.4), (self.y_HW - y0) / (radius * 0.62))
        bubble = self._fill(1 - r, 0.08)
        for _ in range(3):
            x1, y1 = rng.uniform(0.1, 0.6), self.domes[LEFT] + rng.uniform(0.2, 0.42)
            r = np.hypot((self.x_HW - x1) / 0.10, (self.y_HW - y1) / 0.05)
            bubble = bubble + 0.35 * self._fill(1 - r, 0.2)
        return bubble

    def _airways(self) -> np.ndarray:
        """Trachea and main bronchi."""
        canvas = self.canvas()
        carina = np.array([self.shift * 0.7 - 0.01, -0.24])
        top = np.array([-0.005 + 0.3 * self.shift, -1.1])
        canvas.line(np.array([top, (carina + top) / 2 + (0.0, 0.1), carina]), 0.082, 190)
        canvas.line(np.array([carina, np.add(carina, (-0.13, 0.13))]), 0.055, 120)
        canvas.line(np.array([carina, np.add(carina, (0.15, 0.10))]), 0.050, 110)
        return gaussian_filter(canvas.paint(), 0.008 * self.size / 2)

    # ------------------------------------------------------------------------------------- development

    def develop(self) -> np.ndarray:
        """Sum up the attenuation and expose the film: uint8, H x W."""
        body, pose, rng = self.body, self.pose, self.texture
        tissue = self._soft_tissue()
        hila = sum(
            np.exp(-(((self.x_HW - h[0]) / 0.085) ** 2) - ((self.y_HW - h[1]) / 0.14) ** 2)
            for h in (self.hilum(RIGHT), self.hilum(LEFT))
        )
        lungs = np.clip(self.air_HW, 0, None)
        attenuation = 0.74 * tissue
        attenuation += (0.10 + 0.08 * self._fill(self.y_HW - 0.0, 0.2)) * self.silhouette_HW
        attenuation += 0.15 * self._spine() * self._fill(self.silhouette_HW - 0.2, 0.1)
        attenuation -= 0.58 * lungs
        attenuation += lungs * (body.vessel_contrast * self.vessels_HW + 0.13 * hila)
        attenuation += lungs * 0.012 * self.noise(rng, 48)
        bones = self._ribs() * (0.35 + 0.65 * self._fill(self.domes[RIGHT] + 0.12 - self.y_HW, 0.06))
        bones *= self._fill(self.wall_HW + 0.045, 0.008)
        attenuation += body.rib_contrast * bones
        # The wall is seen edge-on: ribs and muscle overlap in a bright rim.
        attenuation += 0.10 * np.exp(-((self.wall_HW / 0.022) ** 2)) * self._fill(self.y_HW - body.apex, 0.03)
        attenuation += 1.3 * body.rib_contrast * self._shoulders()
        attenuation -= 0.24 * self._airways()
        attenuation -= 0.26 * self._abdominal_gas() * (1 - np.clip(lungs, 0, 1))
        attenuation += self.added_HW
        attenuation += 0.025 * self.noise(rng, 6) * tissue
        attenuation = np.clip(attenuation, 0, None)

        image = 1 - np.exp(-pose.exposure * attenuation)
        image = image / (1 - np.exp(-pose.exposure * 1.45))
        veil = gaussian_filter(image, 0.09 * self.size)
        image = (1 - pose.scatter) * image + pose.scatter * (0.15 + 0.75 * veil)
        image = np.clip(image, 0, 1.05) ** pose.gamma
        image = gaussian_filter(image, pose.blur * self.size / 128)
        grain = rng.standard_normal(image.shape, dtype=np.float32)
        image += pose.noise * grain * (0.6 + 0.6 * image)
        image = self._overlays(image)
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _overlays(self, image: np.ndarray) -> np.ndarray:
        """The collimator's border and the lead mark; a portable film is also marked as one."""
        pose = self.pose
        if pose.collimation:
            rim = 1 - pose.collimation - np.maximum(np.abs(self.film_x_HW), np.abs(self.film_y_HW))
            image = image * (0.04 + 0.96 * self._fill(rim, 0.006))
        canvas = self.canvas()
        side = 1 if pose.marker == "L" else -1
        canvas.text(pose.marker, 0.84 * side, -0.80, 0.15)
        if pose.view == "AP":
            canvas.text("PORTABLE", -0.62 * side, -0.90, 0.085)
        return np.maximum(image, 0.92 * np.clip(canvas.paint() * 1.3, 0, 1))


class _Canvas:
    """Lines, bands and discs in body coordinates, drawn at several times the film's resolution.

    Later strokes lie over earlier ones; values are 0 to 255.
    """

    def __init__(self, film: _Film) -> None:
        self._film = film
        side = film.size * film.oversampling
        self._image = Image.new("L", (side, side))
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points_P2: np.ndarray, width: float, value: int) -> None:
        self.lines(points_P2[None], np.array([width]), np.array([value]))

    def lines(self, points_KP2: np.ndarray, width_K: np.ndarray, value_K: np.ndarray) -> None:
        """K strokes, each with its width and value."""
        pixels_KV = self._film.pixels(points_KP2).reshape(len(points_KP2), -1).tolist()
        thick_K = np.maximum(width_K * self._film.pixels_per_unit, 1).round().astype(int).tolist()
        for pixels, thick, value in zip(pixels_KV, thick_K, value_K.astype(int).tolist(), strict=True):
            self._draw.line(pixels, value, thick)

    def bands(self, points_KP2: np.ndarray, half_width_K: np.ndarray, value: int) -> None:
        """K strokes of smooth outline: the polygons between each curve's two offsets."""
        along = np.gradient(points_KP2, axis=1)
        normal = np.stack([-along[..., 1], along[..., 0]], axis=-1)
        normal *= half_width_K[:, None, None] / np.maximum(
            np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9
        )
        outline = np.concatenate([points_KP2 + normal, (points_KP2 - normal)[:, ::-1]], axis=1)
        for pixels in self._film.pixels(outline).reshape(len(outline), -1).tolist():
            self._draw.polygon(pixels, value)

    def polygon(self, points_P2: np.ndarray, value: int) -> None:
        self._draw.polygon(self._film.pixels(points_P2).ravel().tolist(), fill=value)

    def disc(self, centre_2: np.ndarray, radius: float, value: int) -> None:
        x, y = self._film.pixels(centre_2[None])[0]
        r = radius * self._film.pixels_per_unit
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=value)

    def text(self, text: str, film_x: float, film_y: float, height: float) -> None:
        """Upright letters; the place is on the film, not in the body."""
        side = self._image.width
        font = ImageFont.load_default(max(4, height * side / 2))
        self._draw.text(((film_x + 1) * side / 2, (film_y + 1) * side / 2), text, 255, font, anchor="mm")

    def paint(self) -> np.ndarray:
        """float32 H x W, 0 to 1, at the film's resolution."""
        image = self._image.reduce(self._film.oversampling)
        return np.asarray(image, dtype=np.float32) / 255


# ---------------------------------------------------------------------------------------------- the findings


def _cardiomegaly(film: _Film, finding: Finding) -> None:
    """A wide heart; `_Film` has drawn it."""
    film.mark("Cardiomegaly", _heart(film, -0.05, film.domes[LEFT] + 0.10))


def _enlarged_cardiomediastinum(film: _Film, finding: Finding) -> None:
    """A wide mediastinum above the heart; `_Film` has drawn it."""
    film.mark("Enlarged Cardiomediastinum", _heart(film, -0.62, 0.0))


def _heart(film: _Film, top: float, bottom: float) -> np.ndarray:
    return (film.silhouette_HW > 0.5) & (film.y_HW > top) & (film.y_HW < bottom)


def _lung_opacity(film: _Film, finding: Finding) -> None:
    """A hazy patch, seldom two."""
    rng = np.random.default_rng(finding.seed)
    radius = 0.10 + 0.13 * finding.severity
    patch = film.cloud(rng, *_place(rng, finding), radius)
    _opacify(film, finding.side, (0.13 + 0.24 * finding.severity) * patch, "Lung Opacity")


def _pneumonia(film: _Film, finding: Finding) -> None:
    """One to three uneven patches with bronchi showing dark in them."""
    rng = np.random.default_rng(finding.seed)
    patches = np.zeros_like(film.x_HW)
    for _ in range(1 + int(rng.integers(0, 3))):
        x, y = _place(rng, finding)
        patches = np.maximum(patches, film.cloud(rng, x, y + rng.normal(0, 0.08), rng.uniform(0.11, 0.20)))
    patches *= 1 - 0.45 * film.vessels_HW
    patches *= 1 + 0.25 * film.noise(rng, 20)
    _opacify(film, finding.side, (0.20 + 0.26 * finding.severity) * patches, "Pneumonia", "Lung Opacity")


def _consolidation(film: _Film, finding: Finding) -> None:
    """Dense: `lobar` ends sharply at a fissure, `patchy` does not."""
    rng = np.random.default_rng(finding.seed)
    x, y = _place(rng, finding)
    dense = film.cloud(rng, x, y, 0.20 + 0.10 * finding.severity)
    dense = expit((dense - 0.35) / 0.11)
    if finding.kind == "lobar":
        upper = finding.zone == "upper"
        fissure = y + (0.12 if upper else -0.12) + 0.15 * (np.abs(film.x_HW) - 0.35)
        dense *= film._fill((fissure - film.y_HW) * (1 if upper else -1), 0.006)
    dense *= 1 - 0.4 * film.vessels_HW
    _opacify(film, finding.side, (0.26 + 0.22 * finding.severity) * dense, "Consolidation", "Lung Opacity")


def _edema(film: _Film, finding: Finding) -> None:
    """Haze that leaves the hila like wings, and short septal lines at the bases."""
    rng = np.random.default_rng(finding.seed)
    wings = np.zeros_like(film.x_HW)
    for side in SIDES:
        x, y = np.add(film.hilum(side), (SIDES[side] * 0.08, 0.10))
        r = ((film.x_HW - x) / 0.25) ** 2 + ((film.y_HW - y) / 0.34) ** 2
        wings = np.maximum(wings, np.exp(-r))
    wings *= 1 + 0.22 * film.noise(rng, 28)
    canvas = film.canvas()
    for sign in SIDES.values():
        for y in rng.uniform(0.12, 0.42, 7):
            wall = float(film.cage_half_width(np.float32(y)))
            canvas.line(np.array([(sign * (wall - 0.02), y), (sign * (wall - 0.10), y + 0.01)]), 0.008, 200)
    film.added_HW += 0.10 * finding.severity * canvas.paint() * film.lung(BOTH)
    film.vessels_HW = gaussian_filter(film.vessels_HW, 0.35 * film.size / 128) * (1 + 0.3 * finding.severity)
    _opacify(film, BOTH, (0.12 + 0.22 * finding.severity) * wings, "Edema", "Lung Opacity")


def _lung_lesion(film: _Film, finding: Finding) -> None:
    """Round nodules or a mass."""
    rng = np.random.default_rng(finding.seed)
    count = 1 if rng.random() < 0.75 else int(rng.integers(2, 4))
    total = np.zeros_like(film.x_HW)
    for _ in range(count):
        x, y = _place(rng, finding)
        radius = (0.042 + 0.085 * finding.severity) * rng.uniform(0.8, 1.1)
        lobes = 1 + 0.12 * np.sin(3 * np.arctan2(film.y_HW - y, film.x_HW - x) + rng.uniform(0, 6))
        r = np.hypot(film.x_HW - x, film.y_HW - y) / (radius * lobes)
        total = np.maximum(total, np.sqrt(np.clip(1.15 - r**2, 0, 1)) * (0.55 + 3.0 * radius))
    lesion = (0.32 + 0.24 * finding.severity) * total
    seen = lesion > 0.4 * lesion.max()
    film.added_HW += lesion * film.lung(BOTH)
    film.mark("Lung Lesion", seen)


def _atelectasis(film: _Film, finding: Finding) -> None:
    """`plate`: thin bands across the lower lung; `lobar`: a dense base, with the volume loss that `_Film` has
    drawn."""
    rng = np.random.default_rng(finding.seed)
    sign = SIDES[finding.side]
    if finding.kind == "plate":
        canvas = film.canvas()
        for _ in range(1 + int(rng.integers(0, 3))):
            x, y = _place(rng, finding)
            y = min(y, film.domes[finding.side] - 0.06) + rng.normal(0, 0.03)
            half, tilt = rng.uniform(0.08, 0.20), rng.normal(0.0, 0.3)
            ends = np.array([-1, 0, 1])[:, None] * half * np.array([np.cos(tilt), np.sin(tilt)])
            ends[1, 1] -= 0.012
            canvas.line(np.array([x, y]) + ends, 0.018 + 0.020 * finding.severity, 255)
        plate = gaussian_filter(canvas.paint(), 0.4 * film.size / 128) * film.lung(finding.side)
        film.added_HW += (0.18 + 0.20 * finding.severity) * plate
        film.mark("Atelectasis", binary_dilation(plate > 0.35 * plate.max()))
        return
    # The collapsed lobe is a wedge between hilum, diaphragm and spine.
    depth = np.minimum(
        film.y_HW - (0.0 + 0.9 * (np.abs(film.x_HW) - 0.10)), film.dome(film.x_HW, finding.side) - film.y_HW
    )
    depth = np.minimum(depth, np.where(np.sign(film.x_HW) == sign, film.wall_HW, -1.0))
    wedge = film._fill(depth, 0.015)
    film.added_HW += (0.08 + 0.14 * finding.severity) * wedge
    film.mark("Atelectasis", wedge > 0.5)


def _pneumothorax(film: _Film, finding: Finding) -> None:
    """Air between chest wall and lung: no vessels in it, a fine line at its inner border."""
    lung = film.lung(finding.side)
    t = np.clip((film.y_HW - film.body.apex) / 1.1, 0, 1)
    gap = (0.06 + 0.17 * finding.severity) * (1 - 0.75 * t)
    inward = np.minimum(film.wall_HW, (film.y_HW - film.body.apex) * 0.8)
    outside = film._fill(gap - inward, 0.006) * np.clip(lung * 1.6, 0, 1)
    line = np.exp(-(((inward - gap) / 0.012) ** 2)) * lung
    film.vessels_HW = film.vessels_HW * (1 - outside)
    film.air_HW = film.air_HW + (0.05 + 0.12 * finding.severity) * outside
    film.added_HW += (0.07 + 0.08 * finding.severity) * line
    # What is left of the lung holds less air.
    film.added_HW += 0.07 * finding.severity * np.clip(lung - outside, 0, 1)
    film.mark("Pneumothorax", outside > 0.5)


def _pleural_effusion(film: _Film, finding: Finding) -> None:
    """`meniscus`: fluid that climbs along the wall; `layering`: a veil over the lower lung of a patient who
    lies."""
    for side in SIDES if finding.side == BOTH else (finding.side,):
        lung = film.lung(side)
        if finding.kind == "layering":
            veil = np.clip((film.y_HW - 0.05) / 0.45, 0, 1) ** 0.8 * np.clip(lung * 1.4, 0, 1)
            film.added_HW += (0.14 + 0.22 * finding.severity) * veil
            film.mark("Pleural Effusion", (veil > 0.35) & (lung > 0.3))
            continue
        # The angle lies lowest; from there the fluid rises with severity.
        angle = film.domes[side] + 0.17
        level = angle - 0.06 - 0.36 * finding.severity**1.3
        climb = (0.10 + 0.12 * finding.severity) * np.exp(-np.clip(film.wall_HW, 0, None) / 0.07)
        fluid = film._fill(film.y_HW - (level - climb), 0.014) * np.clip(lung * 1.6, 0, 1)
        film.air_HW = film.air_HW * (1 - fluid)
        film.added_HW += 0.04 * fluid
        film.mark("Pleural Effusion", fluid > 0.5)


def _pleural_other(film: _Film, finding: Finding) -> None:
    """`thickening` along the wall, an `apical cap`, or a calcified `plaque`."""
    rng = np.random.default_rng(finding.seed)
    lung = np.clip(film.lung(finding.side) * 1.8, 0, 1)
    if finding.kind == "apical cap":
        inward = np.minimum(film.wall_HW, (film.y_HW - film.body.apex) * 0.9)
        region = film._fill(0.05 + 0.07 * finding.severity - inward, 0.010)
        region *= film._fill(film.body.apex + 0.24 - film.y_HW, 0.03)
        strength = 0.20 + 0.26 * finding.severity
    elif finding.kind == "thickening":
        centre, half = rng.uniform(0.0, 0.32), rng.uniform(0.12, 0.28)
        width = (0.035 + 0.045 * finding.severity) * (1 + 0.25 * film.noise(rng, 16))
        region = film._fill(width - film.wall_HW, 0.008)
        region *= film._fill(half - np.abs(film.y_HW - centre), 0.03)
        strength = 0.24 + 0.28 * finding.severity
    else:
        x, y = _place(rng, finding)
        along, across = film.x_HW - x, film.y_HW - y + rng.normal(0, 0.4) * (film.x_HW - x)
        r = np.hypot(along / (0.07 + 0.05 * finding.severity), across / 0.045)
        region = film._fill(1 - r + 0.45 * film.noise(rng, 22), 0.10)
        strength = 0.26 + 0.26 * finding.severity
    region = region * lung
    film.added_HW += strength * region
    film.mark("Pleural Other", region > 0.5 * region.max())


def _fracture(film: _Film, finding: Finding) -> None:
    """A step in one or several ribs, with callus, or in a clavicle; `_Film` draws the bones."""
    if finding.kind == "clavicle":
        places = [film.clavicles()[finding.side][12]]
    else:
        posterior = film.ribs[0]
        places = [posterior[r, at] for r, (at, _) in film.broken_ribs.items()]
    for x, y in places:
        r = np.hypot(film.x_HW - x, film.y_HW - y)
        film.added_HW += (0.08 + 0.16 * finding.severity) * np.exp(-((r / 0.04) ** 2))
        film.mark("Fracture", r < 0.075)


def _support_devices(film: _Film, finding: Finding) -> None:
    """Lines, tubes and boxes of plastic and metal."""
    rng = np.random.default_rng(finding.seed)
    sign = SIDES[finding.side]
    canvas, metal = film.canvas(), 0.7
    if finding.kind == "central line":
        metal = 0.34 + 0.28 * finding.severity
        start = np.array([(sign * 0.62, -0.62), (sign * 0.36, -0.58), (sign * 0.14, -0.60)])
        if rng.random() < 0.4:
            start = np.array([(sign * 0.16, -1.1), (sign * 0.15, -0.85), (sign * 0.12, -0.66)])
        end = np.array([(-0.07, -0.42), (-0.09, -0.20), (-0.09, rng.uniform(-0.08, 0.10))])
        canvas.line(_smooth(np.add([*start, *end], (film.shift, 0))), 0.017, 255)
    elif finding.kind == "pacemaker":
        x, y = sign * rng.uniform(0.46, 0.58), film.body.apex + rng.uniform(0.20, 0.30)
        box = np.array([(-0.085, -0.06), (0.085, -0.06), (0.095, 0.03), (0.05, 0.075), (-0.05, 0.075)])
        canvas.polygon(np.add(box, (x, y)), 255)
        lead = [(x - sign * 0.05, y - 0.05), (sign * 0.25, film.body.apex + 0.16), (0.0, -0.48)]
        lead += [(-0.09, -0.20), (-0.10, 0.12), (0.06, 0.32), (0.20, 0.38)]
        canvas.line(_smooth(np.add(lead, (film.shift, 0))), 0.014, 190)
    elif finding.kind == "tubes":
        metal = 0.34 + 0.26 * finding.severity
        end = rng.uniform(-0.42, -0.30)
        canvas.line(np.array([(0.0, -1.2), (0.005, -0.7), (0.0, end)]), 0.034, 150)
        canvas.line(np.array([(0.014, -1.2), (0.019, -0.7), (0.014, end)]), 0.010, 255)
        if rng.random() < 0.6:
            feeding = [(0.02, -1.2), (0.03, -0.5), (0.03, 0.1), (0.06, 0.45), (0.20, 0.60), (0.30, 0.66)]
            canvas.line(_smooth(np.array(feeding)), 0.013, 230)
    elif finding.kind == "sternal wires":
        metal = 0.50 + 0.40 * finding.severity
        for y in np.arange(-0.46, 0.30, 0.125) + rng.normal(0, 0.01):
            loop = np.array([(-0.035, 0), (0, -0.022), (0.035, 0), (0, 0.020), (-0.035, 0)])
            canvas.line(np.add(loop, (film.shift + rng.normal(0, 0.005), y)), 0.012, 255)
    else:
        metal = 0.32 + 0.28 * finding.severity
        wall = float(film.cage_half_width(np.float32(0.25)))
        drain = [(wall + 0.25, 0.36), (wall, 0.24), (wall - 0.10, 0.0), (wall - 0.12, -0.28), (0.26, -0.50)]
        canvas.line(_smooth(np.array(drain) * (sign, 1)), 0.034, 140)
        canvas.line(_smooth(np.array(drain) * (sign, 1)), 0.010, 255)
    device = canvas.paint()
    film.added_HW += metal * device
    film.mark("Support Devices", binary_dilation(device > 0.3 * device.max()))


def _place(rng: np.random.Generator, finding: Finding) -> tuple[float, float]:
    """A point in the finding's side and zone, inside the lung of every body."""
    sign = SIDES.get(finding.side) or int(rng.choice([-1, 1]))
    y = ZONES[finding.zone] + rng.uniform(-0.09, 0.09)
    widest = 0.50 if y > -0.2 else 0.40
    return sign * rng.uniform(0.26, widest), y


def _opacify(film: _Film, side: str, opacity_HW: np.ndarray, *labels: str) -> None:
    """Add an opacity within the lung; its mask is where it exceeds a third of its peak."""
    lung = film.lung(side)
    opacity = opacity_HW * np.clip(lung * 1.2, 0, 1)
    film.added_HW += opacity
    for label in labels:
        film.mark(label, opacity > 0.35 * opacity.max())


def _smooth(points_P2: np.ndarray) -> np.ndarray:
    """A smooth curve through the points."""
    at = np.linspace(0, 1, len(points_P2))
    return PchipInterpolator(at, points_P2)(np.linspace(0, 1, 8 * len(points_P2)))


# In the order in which they are drawn: what removes or veils vessels comes before what is seen through it.
_DRAWN = {
    "Cardiomegaly": _cardiomegaly,
    "Enlarged Cardiomediastinum": _enlarged_cardiomediastinum,
    "Edema": _edema,
    "Pneumothorax": _pneumothorax,
    "Lung Opacity": _lung_opacity,
    "Pneumonia": _pneumonia,
    "Consolidation": _consolidation,
    "Lung Lesion": _lung_lesion,
    "Atelectasis": _atelectasis,
    "Pleural Other": _pleural_other,
    "Pleural Effusion": _pleural_effusion,
    "Fracture": _fracture,
    "Support Devices": _support_devices,
}
