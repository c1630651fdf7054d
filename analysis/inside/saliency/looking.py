"""Maps of where predictors look, laid over a cohort's images.

Maps are kept as the cells that a predictor gives, some kilobytes each, and laid over their image one at a
time, when they are asked for: over a radiograph of 10 megapixels one takes 40 MB.

Shape legend: H height, W width, h and w cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from cohort.geometry import Geometry, map_to_image
from cohort.image_store import decoded
from cohort.manifest import Cohort
from vlm.altered_images import seen_image
from vlm.encoders import Encoder
from vlm.predictor import Predictor
from vlm.saliency import saliency_maps
from vlm.saliency.target import BATCH, ZeroGradient

Look = tuple[int, str]
"""An image's place in the cohort, and a label."""
LookedAt = Callable[[np.ndarray, str], np.ndarray]
"""From images as an encoder takes them, and a label, to a map (h, w) each."""


class Maps(Sequence[np.ndarray]):
    """One map per place, float32 (H, W), made anew whenever it is asked for."""

    def __init__(self, count: int, made: Callable[[int], np.ndarray]) -> None:
        self._count, self._made = count, made

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> np.ndarray:
        if not 0 <= place < self._count:
            raise IndexError(f"no map {place} of {self._count}")
        return self._made(place)


@dataclass(frozen=True, kw_only=True, eq=False)
class SquareMaps(Sequence[np.ndarray]):
    """Maps over the squares that an encoder sees, laid over their images when they are asked for."""

    cells: Sequence[np.ndarray]
    """float32 (h, w) each."""
    sizes: Sequence[tuple[int, int]]
    """Height and width of the images."""
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, place: int) -> np.ndarray:
        """float32 (H, W), NaN where the encoder does not see the image."""
        return self.over(place, *self.sizes[place])

    def over(self, place: int, height: int, width: int) -> np.ndarray:
        """The map of this place laid over an image of another size."""
        return map_to_image(self.cells[place], height, width, self.geometry)


@dataclass(frozen=True, kw_only=True, eq=False)
class Looking:
    """The images of one cohort, as encoders see them."""

    cohort: Cohort
    bar: tqdm | None = None
    """Counts maps as they are drawn."""
    _seen: dict[tuple[int, Geometry], np.ndarray] = field(default_factory=dict)
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict)

    @contextmanager
    def counted(self, maps: int, what: str) -> Iterator[Looking]:
        """The same with a progress bar of so many maps, which tells the time left."""
        with tqdm(total=maps, desc=what, unit="map", disable=None, leave=False, smoothing=0.1) as bar:
            yield replace(self, bar=bar)

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

    def over_images(self, looks: Sequence[Look], cells: Sequence[np.ndarray], encoder: Encoder) -> SquareMaps:
        """Maps over the encoder's square (h, w), laid over their images."""
        sizes = [self.size(row, encoder) for row, _ in looks]
        return SquareMaps(cells=cells, sizes=sizes, geometry=encoder.geometry)

    def cells(
        self, looks: Sequence[Look], encoder: Encoder, looked_at: LookedAt, each: int = 1
    ) -> list[np.ndarray]:
        """What `looked_at` gives of each look, the looks of a label together, a batch at a time.

        Args:
            each: as how many maps a look counts in the progress bar.
        """
        found: dict[int, np.ndarray] = {}
        for label in dict.fromkeys(label for _, label in looks):
            places = [place for place, look in enumerate(looks) if look[1] == label]
            for start in range(0, len(places), BATCH):
                some = places[start : start + BATCH]
                images = self.seen([looks[place][0] for place in some], encoder)
                found |= dict(zip(some, looked_at(images, label), strict=True))
                if self.bar is not None:
                    self.bar.update(each * len(some))
        return [found[place] for place in range(len(looks))]

    def maps(self, predictor: Predictor, looks: Sequence[Look], method: str, shifts: int = 1) -> SquareMaps:
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
        refused: dict[str, ZeroGradient] = {}
        drawn: set[str] = set()

        def looked_at(images: np.ndarray, label: str) -> np.ndarray:
            try:
                maps = saliency_maps(predictor, images, [label], method=method, shifts=shifts)[:, 0]
            except ZeroGradient as error:
                refused[label] = error
                return np.zeros((len(images), 1, 1), dtype=np.float32)
            drawn.add(label)
            return maps

        cells = self.cells(looks, predictor.encoder, looked_at, shifts**2)
        if refused and not drawn:
            raise next(iter(refused.values()))
        return cells
