"""Maps laid over images only when they are asked for."""

from types import SimpleNamespace

import numpy as np
import pytest

from analysis.inside.saliency.looking import Looking, Maps, SquareMaps
from cohort.geometry import Geometry


def test_a_map_is_made_when_it_is_asked_for_and_not_kept():
    made = []
    maps = Maps(3, lambda place: made.append(place) or np.full((2, 2), place))
    assert len(maps) == 3 and not made
    assert [int(one[0, 0]) for one in maps] == [0, 1, 2] and maps[1] is not maps[1]
    with pytest.raises(IndexError):
        maps[3]


def test_a_square_is_laid_over_its_own_image_or_over_one_of_another_size():
    cells = [np.eye(2, dtype=np.float32)]
    maps = SquareMaps(cells=cells, sizes=[(12, 8)], geometry=Geometry(4))
    assert maps[0].shape == (12, 8) and np.isnan(maps[0][0]).all()  # the crop shows the rows in the middle
    assert maps.over(0, 6, 6).shape == (6, 6) and np.isfinite(maps.over(0, 6, 6)).all()


class Stored(Looking):
    """Images of one colour, the number of their row."""

    def seen(self, rows, encoder):
        return np.stack([np.full((2, 2, 1), row, np.uint8) for row in rows])


def test_images_are_looked_at_in_batches_and_counted():
    bar = SimpleNamespace(counts=[])
    bar.update = bar.counts.append
    looking = Stored(cohort=SimpleNamespace(), bar=bar)
    looks = [(row, "A" if row % 3 else "B") for row in range(20)]
    sizes = []

    def looked_at(images, label):
        sizes.append(len(images))
        return images[:, :, :, 0] + (100 if label == "B" else 0)

    found = looking.cells(looks, SimpleNamespace(), looked_at, each=9)
    assert [int(one[0, 0]) for one in found] == [row + (0 if row % 3 else 100) for row in range(20)]
    assert max(sizes) <= 8 and sum(bar.counts) == 9 * 20
