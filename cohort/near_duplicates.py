"""Images that show the same although their pixels differ: compressed anew, resized, brightened.

A perceptual hash proposes pairs, the correlation of the images decides. Of 951,000 pairs of radiographs of
different patients (64-pixel frontals of ChestX-ray14, paediatric ones of 256 pixels) the most alike
correlate at 0.965; of re-exports (JPEG quality 30, gamma 0.7 to 1.5, three quarters of the size, noise) that
correlate above 0.99 the hash proposes all but 1 in 1,000, and 3 in 100,000 of the other pairs.

Shape legend: N images, H = W = `SIDE`, B 64-bit words of a hash, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import imagehash
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from cohort.threads import in_threads

SIDE = 64
ALIKE = 0.99
"""Correlation of two thumbnails above which the images show the same."""
_ALIKE_IN_DETAIL = 0.9
"""Also of what is left without the coarse layout (a Gaussian of `_COARSE` pixels): two retinas, bright discs
on black, correlate above `ALIKE` without a vessel in common."""
_COARSE = 4
_FLAT = 2.0
"""Standard deviation, of 255, below which a thumbnail shows nothing that could be the same."""
_HASH_SIDE = 11
_FARTHEST = 16
"""Bits of the 121 in which hashes may differ."""
_ROWS, _COLUMNS = 128, 4096
_PAIRS_AT_ONCE = 2048


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 (SIDE, SIDE), gray, of decoded pixels, uint8 (H, W) or (H, W, 3) or uint16 (H, W); sides of other
    lengths are not kept in proportion."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> max(0, int(pixels.max()).bit_length() - 8)).astype(np.uint8)
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small.convert("L"))


def near_duplicates(thumbnails_NHW: np.ndarray, among: Sequence[int]) -> list[tuple[int, int, float]]:
    """Pairs of positions, the first below the second, with the correlation of their thumbnails, the highest
    first.

    Of several that all show the same as few pairs as join them, the most alike, fewer than there are images.
    100,000 thumbnails take 50 s of CPU (`benchmarks/near_duplicates.py`).

    Args:
        thumbnails_NHW: as `thumbnail` gives them; flat ones have no duplicates.
        among: positions of the images that are compared, ascending.
    """
    shown = np.array([n for n in among if thumbnails_NHW[n].std() >= _FLAT], dtype=np.int64)
    if len(shown) < 2:
        return []
    hashes = in_threads(lambda k: _hash(thumbnails_NHW[shown[k]]), len(shown), "hashing images")
    found = []
    for pairs_P2 in _close(np.array(list(hashes))):
        pairs_P2 = shown[pairs_P2]
        for start in range(0, len(pairs_P2), _PAIRS_AT_ONCE):
            found += _alike(thumbnails_NHW, pairs_P2[start : start + _PAIRS_AT_ONCE])
    return _joining(found, len(thumbnails_NHW))


def _hash(thumbnail_HW: np.ndarray) -> np.ndarray:
    """uint64 (B,): the perceptual hash of imagehash, its bits from the first on."""
    bits = imagehash.phash(Image.fromarray(thumbnail_HW), _HASH_SIDE).hash.reshape(-1)
    words = np.zeros(-(-len(bits) // 64) * 64, dtype=bool)
    words[: len(bits)] = bits
    return np.packbits(words).view(np.uint64)


def _close(hashes_NB: np.ndarray) -> Iterator[np.ndarray]:
    """int64 (P, 2): pairs, the first below the second, whose hashes differ in `_FARTHEST` bits at most; all
    of them, block by block."""
    words = [np.ascontiguousarray(word_N) for word_N in hashes_NB.T]
    count = len(hashes_NB)

    def rows(block: int) -> np.ndarray:
        top = block * _ROWS
        found = []
        for left in range(top, count, _COLUMNS):
            differing = 0
            for word_N in words:
                other = word_N[top : top + _ROWS, None] ^ word_N[None, left : left + _COLUMNS]
                differing = differing + np.bitwise_count(other)
            pairs_P2 = np.argwhere(differing <= _FARTHEST) + np.array([top, left])
            found.append(pairs_P2[pairs_P2[:, 0] < pairs_P2[:, 1]])
        return np.concatenate(found)

    yield from in_threads(rows, -(-count // _ROWS), "comparing images", "block")


def _alike(thumbnails_NHW: np.ndarray, pairs_P2: np.ndarray) -> list[tuple[int, int, float]]:
    first_PHW, second_PHW = (thumbnails_NHW[pairs_P2[:, k]].astype(np.float32) for k in (0, 1))
    correlation_P = _correlation(first_PHW, second_PHW)
    near_P = np.flatnonzero(correlation_P > ALIKE)
    detail_P = _correlation(_detail(first_PHW[near_P]), _detail(second_PHW[near_P]))
    return [
        (int(pairs_P2[p, 0]), int(pairs_P2[p, 1]), min(float(correlation_P[p]), 1.0))
        for p in near_P[detail_P > _ALIKE_IN_DETAIL]
    ]


def _correlation(first_PHW: np.ndarray, second_PHW: np.ndarray) -> np.ndarray:
    first_PHW, second_PHW = (x - x.mean(axis=(1, 2), keepdims=True) for x in (first_PHW, second_PHW))
    products_P, first_P, second_P = (
        np.einsum("phw,phw->p", a, b)
        for a, b in ((first_PHW, second_PHW), (first_PHW, first_PHW), (second_PHW, second_PHW))
    )
    return products_P / np.sqrt(np.maximum(first_P * second_P, 1e-12))


def _detail(thumbnails_PHW: np.ndarray) -> np.ndarray:
    return thumbnails_PHW - gaussian_filter(thumbnails_PHW, _COARSE, axes=(1, 2))


def _joining(pairs: Sequence[tuple[int, int, float]], count: int) -> list[tuple[int, int, float]]:
    """Those of the pairs, the most alike first, without which a group would fall apart."""
    if not pairs:
        return []
    first, second, correlation = zip(*pairs, strict=True)
    correlation_of = {(i, j): r for i, j, r in pairs}
    # An edge of length 0 is none to SciPy.
    tree = minimum_spanning_tree(
        coo_array((2 - np.array(correlation), (first, second)), (count, count))
    ).tocoo()
    kept = [(int(i), int(j)) for i, j in zip(tree.row, tree.col, strict=True)]
    return sorted(((i, j, correlation_of[i, j]) for i, j in kept), key=lambda pair: (-pair[2], pair[:2]))
