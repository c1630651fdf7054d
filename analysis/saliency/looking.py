"""Maps of where predictors look, laid over a cohort's images.

Shape legend: H height, W width, h and w cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cohort.geometry import Geometry, map_to_image
from cohort.image_store import decoded
from cohort.manifest import Cohort
from vlm.altered_images import seen_image
from vlm.encoders import Encoder
from vlm.predictor import Predictor
from vlm.saliency import saliency_maps
from vlm.saliency.target import ZeroGradient

Look = tuple[int, str]
"""An image's place in the cohort, and a label."""
LookedAt = Callable[[np.ndarray, str], np.ndarray]
"""From images as an encoder takes them, and a label, to a map (h, w) each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Looking:
    """The images of one cohort, as encoders see them."""

    cohort: Cohort
    _seen: dict[tuple[int, Geometry], np.ndarray] = field(default_factory=dict)
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict)

    def seen(self, rows: Sequence[int], encoder: Encoder) -> np.ndarray:
        """uint8 (images, size, size, 1 or 3), as the encoder takes them."""
        files, digests = None, None
        for row in rows:
            key = (row, encoder.geometry)
            if key not in self._seen:
                if files is None:
                    files, digests = self.cohort.files(), self.cohort.column("digest")
                with decoded(files, row, digests[row]) as pixels:
                    self._sizes[row] = pixels.shape[:2]
                    self._seen[key] = seen_image(pixels, self.cohort, encoder)
        return np.stack([self._seen[row, encoder.geometry] for row in rows])

    def size(self, row: int, encoder: Encoder) -> tuple[int, int]:
        """Height and width of an image."""
        if row not in self._sizes:
            self.seen([row], encoder)
        return self._sizes[row]

    def over_images(
        self, looks: Sequence[Look], cells: Sequence[np.ndarray], encoder: Encoder
    ) -> list[np.ndarray]:
        """Maps over the encoder's square (h, w) -> over their images, float32 (H, W), NaN where the encoder
        does not see the image."""
        return [
            map_to_image(map_hw, *self.size(row, encoder), encoder.geometry)
            for map_hw, (row, _) in zip(cells, looks, strict=True)
        ]

    def cells(self, looks: Sequence[Look], encoder: Encoder, looked_at: LookedAt) -> list[np.ndarray]:
        """What `looked_at` gives of each look, the looks of a label together."""
        found: dict[int, np.ndarray] = {}
        for label in dict.fromkeys(label for _, label in looks):
            places = [place for place, look in enumerate(looks) if look[1] == label]
            images = self.seen([looks[place][0] for place in places], encoder)
            found |= dict(zip(places, looked_at(images, label), strict=True))
        return [found[place] for place in range(len(looks))]

    def maps(
        self, predictor: Predictor, looks: Sequence[Look], method: str, shifts: int = 1
    ) -> list[np.ndarray]:
        """`squares` over their images, as `over_images`."""
        cells = self.squares(predictor, looks, method, shifts)
        return self.over_images(looks, cells, predictor.encoder)

    def squares(
        self, predictor: Predictor, looks: Sequence[Look], method: str, shifts: int = 1
    ) -> list[np.ndarray]:
        """A map a look, float32 (h, w) over the encoder's square. A label whose gradient is zero throughout
        has nothing on its maps, which hits nothing.

        Raises:
            InputError: as `vlm.saliency.saliency_maps`, ZeroGradient only where all labels have none.
        """
        refused: list[ZeroGradient] = []

        def looked_at(images: np.ndarray, label: str) -> np.ndarray:
            try:
                return saliency_maps(predictor, images, [label], method=method, shifts=shifts)[:, 0]
            except ZeroGradient as error:
                refused.append(error)
                return np.zeros((len(images), 1, 1), dtype=np.float32)

        cells = self.cells(looks, predictor.encoder, looked_at)
        if looks and len(refused) == len({label for _, label in looks}):
            raise refused[0]
        return cells
