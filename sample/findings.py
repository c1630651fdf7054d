"""How each finding changes a film, one function per finding, and the film with all of a patient's.

Shape legend: H height, W width (both `size`), P points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.special import expit

from sample.anatomy import BOTH, LEFT, SIDES, ZONES, Body, Finding, Pose
from sample.film import Film


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
    film = Film(body, pose, findings, size)
    for label, draw in _DRAWN.items():
        if label in findings:
            draw(film, findings[label])
    return film.develop(), film.masks_HW


def _cardiomegaly(film: Film, finding: Finding) -> None:
    """A wide heart; `Film` has drawn it."""
    film.mark("Cardiomegaly", _heart(film, -0.05, film.domes[LEFT] + 0.10))


def _enlarged_cardiomediastinum(film: Film, finding: Finding) -> None:
    """A wide mediastinum above the heart; `Film` has drawn it."""
    film.mark("Enlarged Cardiomediastinum", _heart(film, -0.62, 0.0))


def _heart(film: Film, top: float, bottom: float) -> np.ndarray:
    return (film.silhouette_HW > 0.5) & (film.y_HW > top) & (film.y_HW < bottom)


def _lung_opacity(film: Film, finding: Finding) -> None:
    """A hazy patch, seldom two."""
    rng = np.random.default_rng(finding.seed)
    radius = 0.10 + 0.13 * finding.severity
    patch = film.cloud(rng, *_place(rng, finding), radius)
    _opacify(film, finding.side, (0.13 + 0.24 * finding.severity) * patch, "Lung Opacity")


def _pneumonia(film: Film, finding: Finding) -> None:
    """One to three uneven patches with bronchi showing dark in them."""
    rng = np.random.default_rng(finding.seed)
    patches = np.zeros_like(film.x_HW)
    for _ in range(1 + int(rng.integers(0, 3))):
        x, y = _place(rng, finding)
        patches = np.maximum(patches, film.cloud(rng, x, y + rng.normal(0, 0.08), rng.uniform(0.11, 0.20)))
    patches *= 1 - 0.45 * film.vessels_HW
    patches *= 1 + 0.25 * film.noise(rng, 20)
    _opacify(film, finding.side, (0.20 + 0.26 * finding.severity) * patches, "Pneumonia", "Lung Opacity")


def _consolidation(film: Film, finding: Finding) -> None:
    """Dense: `lobar` ends sharply at a fissure, `patchy` does not."""
    rng = np.random.default_rng(finding.seed)
    x, y = _place(rng, finding)
    dense = film.cloud(rng, x, y, 0.20 + 0.10 * finding.severity)
    dense = expit((dense - 0.35) / 0.11)
    if finding.kind == "lobar":
        upper = finding.zone == "upper"
        fissure = y + (0.12 if upper else -0.12) + 0.15 * (np.abs(film.x_HW) - 0.35)
        dense *= film.fill((fissure - film.y_HW) * (1 if upper else -1), 0.006)
    dense *= 1 - 0.4 * film.vessels_HW
    _opacify(film, finding.side, (0.26 + 0.22 * finding.severity) * dense, "Consolidation", "Lung Opacity")


def _edema(film: Film, finding: Finding) -> None:
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


def _lung_lesion(film: Film, finding: Finding) -> None:
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


def _atelectasis(film: Film, finding: Finding) -> None:
    """`plate`: thin bands across the lower lung; `lobar`: a dense base, with the volume loss that `Film` has
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
    wedge = film.fill(depth, 0.015)
    film.added_HW += (0.08 + 0.14 * finding.severity) * wedge
    film.mark("Atelectasis", wedge > 0.5)


def _pneumothorax(film: Film, finding: Finding) -> None:
    """Air between chest wall and lung: no vessels in it, a fine line at its inner border."""
    lung = film.lung(finding.side)
    t = np.clip((film.y_HW - film.body.apex) / 1.1, 0, 1)
    gap = (0.06 + 0.17 * finding.severity) * (1 - 0.75 * t)
    inward = np.minimum(film.wall_HW, (film.y_HW - film.body.apex) * 0.8)
    outside = film.fill(gap - inward, 0.006) * np.clip(lung * 1.6, 0, 1)
    line = np.exp(-(((inward - gap) / 0.012) ** 2)) * lung
    film.vessels_HW = film.vessels_HW * (1 - outside)
    film.air_HW = film.air_HW + (0.05 + 0.12 * finding.severity) * outside
    film.added_HW += (0.07 + 0.08 * finding.severity) * line
    # What is left of the lung holds less air.
    film.added_HW += 0.07 * finding.severity * np.clip(lung - outside, 0, 1)
    film.mark("Pneumothorax", outside > 0.5)


def _pleural_effusion(film: Film, finding: Finding) -> None:
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
        fluid = film.fill(film.y_HW - (level - climb), 0.014) * np.clip(lung * 1.6, 0, 1)
        film.air_HW = film.air_HW * (1 - fluid)
        film.added_HW += 0.04 * fluid
        film.mark("Pleural Effusion", fluid > 0.5)


def _pleural_other(film: Film, finding: Finding) -> None:
    """`thickening` along the wall, an `apical cap`, or a calcified `plaque`."""
    rng = np.random.default_rng(finding.seed)
    lung = np.clip(film.lung(finding.side) * 1.8, 0, 1)
    if finding.kind == "apical cap":
        inward = np.minimum(film.wall_HW, (film.y_HW - film.body.apex) * 0.9)
        region = film.fill(0.05 + 0.07 * finding.severity - inward, 0.010)
        region *= film.fill(film.body.apex + 0.24 - film.y_HW, 0.03)
        strength = 0.20 + 0.26 * finding.severity
    elif finding.kind == "thickening":
        centre, half = rng.uniform(0.0, 0.32), rng.uniform(0.12, 0.28)
        width = (0.035 + 0.045 * finding.severity) * (1 + 0.25 * film.noise(rng, 16))
        region = film.fill(width - film.wall_HW, 0.008)
        region *= film.fill(half - np.abs(film.y_HW - centre), 0.03)
        strength = 0.24 + 0.28 * finding.severity
    else:
        x, y = _place(rng, finding)
        along, across = film.x_HW - x, film.y_HW - y + rng.normal(0, 0.4) * (film.x_HW - x)
        r = np.hypot(along / (0.07 + 0.05 * finding.severity), across / 0.045)
        region = film.fill(1 - r + 0.45 * film.noise(rng, 22), 0.10)
        strength = 0.26 + 0.26 * finding.severity
    region = region * lung
    film.added_HW += strength * region
    film.mark("Pleural Other", region > 0.5 * region.max())


def _fracture(film: Film, finding: Finding) -> None:
    """A step in one or several ribs, with callus, or in a clavicle; `Film` draws the bones."""
    if finding.kind == "clavicle":
        places = [film.clavicles()[finding.side][12]]
    else:
        posterior = film.ribs[0]
        places = [posterior[r, at] for r, (at, _) in film.broken_ribs.items()]
    for x, y in places:
        r = np.hypot(film.x_HW - x, film.y_HW - y)
        film.added_HW += (0.08 + 0.16 * finding.severity) * np.exp(-((r / 0.04) ** 2))
        film.mark("Fracture", r < 0.075)


def _support_devices(film: Film, finding: Finding) -> None:
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


def _opacify(film: Film, side: str, opacity_HW: np.ndarray, *labels: str) -> None:
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
