"""What of an encoder a head reads: kinds of features, which lie side by side in one row per image.

    projected   in the space shared with text
    pooled      before that projection
    deep        of a transformer the class token (or pooled attention) and the mean patch token of each of its
                last blocks, of a convolutional network the mean of each of its stages
    projected+deep, pooled+deep    both, joined

A kind is a run of columns, cut into blocks: outputs of one layer, which have one unit of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PROJECTED, POOLED, DEEP = "projected", "pooled", "deep"
SINGLE = (PROJECTED, POOLED, DEEP)
JOINED = (f"{PROJECTED}+{DEEP}", f"{POOLED}+{DEEP}")
KINDS = SINGLE + JOINED


@dataclass(frozen=True)
class FeatureKind:
    """Where in a row of an encoder's features a kind lies."""

    name: str
    first: int
    """Its first column."""
    blocks: tuple[int, ...]
    """Width of each of its blocks, in the order of the columns."""

    @property
    def width(self) -> int:
        return sum(self.blocks)

    @property
    def columns(self) -> slice:
        return slice(self.first, self.first + self.width)


def side_by_side(blocks: Mapping[str, tuple[int, ...]]) -> dict[str, FeatureKind]:
    """The kinds that lie in this order in a row, each with the widths of its blocks; and those that join a
    kind with `deep`, where `deep` follows it directly."""
    kinds: dict[str, FeatureKind] = {}
    first = 0
    before = None
    for name, widths in blocks.items():
        kinds[name] = FeatureKind(name, first, tuple(widths))
        if name == DEEP and before is not None:
            joined = f"{before.name}+{DEEP}"
            kinds[joined] = FeatureKind(joined, before.first, before.blocks + tuple(widths))
        before = kinds[name]
        first += before.width
    return kinds


def base_kind(kinds: Mapping[str, FeatureKind]) -> FeatureKind:
    """What published methods put a head on: the projected features, or the pooled ones of an encoder that has
    no projection; the deep ones where there are no others."""
    return next(kinds[name] for name in (PROJECTED, POOLED, DEEP) if name in kinds)
