"""Strokes on a film, drawn at several times its resolution.

Shape legend: H height, W width (both the film's `size`), P points of a curve, K strokes, V numbers of one.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sample.anatomy import Pose


def body_to_film(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """float32 (2, 2) and (2,): film = body @ matrix.T + shift, both in -1..1 over the film."""
    turn = np.deg2rad(pose.rotation)
    matrix = pose.scale * np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], dtype=np.float32
    )
    return matrix, np.array([pose.shift_x, pose.shift_y], dtype=np.float32)


class Canvas:
    """Lines, bands and discs in body coordinates, drawn at several times the film's resolution.

    Later strokes lie over earlier ones; values are 0 to 255.
    """

    def __init__(self, pose: Pose, size: int) -> None:
        self._to_film, self._shift = body_to_film(pose)
        self._oversampling = max(1, round(384 / size))
        self._side = size * self._oversampling
        self._pixels_per_unit = 0.5 * size * self._oversampling * pose.scale
        self._image = Image.new("L", (self._side, self._side))
        self._draw = ImageDraw.Draw(self._image)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        """Body coordinates (..., 2) to pixels of the oversampled film."""
        film = np.asarray(points, dtype=np.float32) @ self._to_film.T + self._shift
        return (film + 1) * (0.5 * self._side)

    def line(self, points_P2: np.ndarray, width: float, value: int) -> None:
        self.lines(points_P2[None], np.array([width]), np.array([value]))

    def lines(self, points_KP2: np.ndarray, width_K: np.ndarray, value_K: np.ndarray) -> None:
        """K strokes, each with its width and value."""
        pixels_KV = self._pixels(points_KP2).reshape(len(points_KP2), -1).tolist()
        thick_K = np.maximum(width_K * self._pixels_per_unit, 1).round().astype(int).tolist()
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
        for pixels in self._pixels(outline).reshape(len(outline), -1).tolist():
            self._draw.polygon(pixels, value)

    def polygon(self, points_P2: np.ndarray, value: int) -> None:
        self._draw.polygon(self._pixels(points_P2).ravel().tolist(), fill=value)

    def disc(self, centre_2: np.ndarray, radius: float, value: int) -> None:
        x, y = self._pixels(centre_2[None])[0]
        r = radius * self._pixels_per_unit
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=value)

    def text(self, text: str, film_x: float, film_y: float, height: float) -> None:
        """Upright letters; the place is on the film, not in the body."""
        font = ImageFont.load_default(max(4, height * self._side / 2))
        self._draw.text(
            ((film_x + 1) * self._side / 2, (film_y + 1) * self._side / 2), text, 255, font, anchor="mm"
        )

    def paint(self) -> np.ndarray:
        """float32 H x W, 0 to 1, at the film's resolution."""
        image = self._image.reduce(self._oversampling)
        return np.asarray(image, dtype=np.float32) / 255
