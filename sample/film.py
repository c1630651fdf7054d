"""One frontal chest film: anatomy, projection and exposure.

A film is composed the way a projection is: what lies in a ray adds up. Soft tissue, bone, vessels, fluid and
metal add attenuation, air in the lungs takes it away, and a saturating film curve with noise turns the sum
into gray values, bright where much is absorbed. Nothing here is a simulation of X-rays; it is a drawing that
resembles a chest film at a glance, so that a pipeline can be exercised without patients.

Shape legend: H height, W width (both `size`), P points of a curve, R ribs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from PIL import Image
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from cohort.labels import CHEXPERT_14
from sample.anatomy import BOTH, LEFT, RIGHT, SIDES, Body, Finding, Pose
from sample.canvas import Canvas, body_to_film

_RIBS = 11


class Film:
    """A film while it is drawn: what each structure adds to or takes from the attenuation.

    Findings that move anatomy (a large heart, a raised diaphragm) are read by the geometry, the others change
    `air_HW`, `added_HW` and `vessels_HW` before `develop` sums everything up.
    """

    def __init__(self, body: Body, pose: Pose, findings: Mapping[str, Finding], size: int) -> None:
        self.body, self.pose, self.findings, self.size = body, pose, findings, size
        self.texture = np.random.default_rng(pose.seed)
        self.masks_HW = np.zeros((size, size), dtype=np.uint16)

        steps = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        self.film_x_HW, self.film_y_HW = np.meshgrid(steps, steps)
        to_film, shift = body_to_film(pose)
        (a, b), (c, d) = np.linalg.inv(to_film)
        u_HW, v_HW = self.film_x_HW - shift[0], self.film_y_HW - shift[1]
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
        self.silhouette_HW = self.fill(self.inside_heart_HW, 0.012)

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
        lung = self.fill(depth, 0.006) * (0.62 + 0.38 * thick)
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

    def fill(self, depth_HW: np.ndarray, softness: float) -> np.ndarray:
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

    def canvas(self) -> Canvas:
        return Canvas(self.pose, self.size)

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
        body = self.fill(0.095 + 0.012 * np.cos(2 * np.pi * phase) - np.abs(self.x_HW), 0.008)
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
        trunk = self.fill(inside, 0.008) * np.clip(1.2 * inside / half + 0.12, 0, 1) ** 0.6
        # Arms: along the body on a portable film, turned outwards otherwise.
        hand = 1.12 if self.pose.view == "AP" else 1.45
        axis = 1.08 * girth + (hand - 1.08) * (y + 0.5) / 1.2
        arm = np.sqrt(np.clip(1 - ((x - axis) / 0.20) ** 2, 0, 1)) * self.fill(y + 0.55, 0.06)
        thick = np.maximum(trunk, 0.75 * arm)
        thick += 0.10 * self.fill(y - 0.55, 0.12)  # liver and bowel
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
        bubble = self.fill(1 - r, 0.08)
        for _ in range(3):
            x1, y1 = rng.uniform(0.1, 0.6), self.domes[LEFT] + rng.uniform(0.2, 0.42)
            r = np.hypot((self.x_HW - x1) / 0.10, (self.y_HW - y1) / 0.05)
            bubble = bubble + 0.35 * self.fill(1 - r, 0.2)
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
        attenuation += (0.10 + 0.08 * self.fill(self.y_HW - 0.0, 0.2)) * self.silhouette_HW
        attenuation += 0.15 * self._spine() * self.fill(self.silhouette_HW - 0.2, 0.1)
        attenuation -= 0.58 * lungs
        attenuation += lungs * (body.vessel_contrast * self.vessels_HW + 0.13 * hila)
        attenuation += lungs * 0.012 * self.noise(rng, 48)
        bones = self._ribs() * (0.35 + 0.65 * self.fill(self.domes[RIGHT] + 0.12 - self.y_HW, 0.06))
        bones *= self.fill(self.wall_HW + 0.045, 0.008)
        attenuation += body.rib_contrast * bones
        # The wall is seen edge-on: ribs and muscle overlap in a bright rim.
        attenuation += 0.10 * np.exp(-((self.wall_HW / 0.022) ** 2)) * self.fill(self.y_HW - body.apex, 0.03)
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
            image = image * (0.04 + 0.96 * self.fill(rim, 0.006))
        canvas = self.canvas()
        side = 1 if pose.marker == "L" else -1
        canvas.text(pose.marker, 0.84 * side, -0.80, 0.15)
        if pose.view == "AP":
            canvas.text("PORTABLE", -0.62 * side, -0.90, 0.085)
        return np.maximum(image, 0.92 * np.clip(canvas.paint() * 1.3, 0, 1))
