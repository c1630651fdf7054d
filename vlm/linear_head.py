"""A linear head: the one place where features are normalised and turned into logits.

`vlm.torch_head` is the same head in torch; this module imports numpy alone, so that judging can.

Shape legend: N images, D features, C labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


def standardisation(features_ND: np.ndarray, *, one_scale: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, (D,) float64.

    A feature that is constant up to rounding says nothing, and its rounding must not be blown up: its scale
    is 1.

    Args:
        features_ND: the training images' features.
        one_scale: the root mean square of the deviations in place of each, for features of one unit.
    """
    mean_D = features_ND.mean(0, dtype=np.float64)
    deviation_D = features_ND.std(0, dtype=np.float64)
    if one_scale:
        deviation_D[:] = np.sqrt((deviation_D**2).mean())
    constant_D = deviation_D <= np.maximum(1e-6 * np.abs(mean_D), np.finfo(np.float32).tiny)
    return mean_D, np.where(constant_D, 1.0, deviation_D)


SMALLEST_NORM = 1e-12
"""A row of features with a smaller Euclidean norm is divided by this instead, as
`torch.nn.functional.normalize` does: a row of zeros stays zeros, and rounding is not blown up to length 1."""


def unit_rows(x_ND: np.ndarray) -> np.ndarray:
    """x / max(|x|, SMALLEST_NORM) row by row, (N, D), in the dtype of x."""
    return x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), SMALLEST_NORM)


def normalised(x_ND: np.ndarray, mean_D: np.ndarray, scale_D: np.ndarray, *, l2: bool) -> np.ndarray:
    """(x - mean) / scale, (N, D), of `unit_rows` in place of x where `l2`."""
    return ((unit_rows(x_ND) if l2 else x_ND) - mean_D) / scale_D


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearHead:
    """logits = ((x - mean) / scale) @ weight + bias, of `unit_rows` in place of x where `l2` is set."""

    weight_DC: np.ndarray
    """float32 (D, C)."""
    bias_C: np.ndarray
    """float32 (C,)."""
    mean_D: np.ndarray
    """float32 (D,): zeros where the features are not standardised."""
    scale_D: np.ndarray
    """float32 (D,), positive: ones where the features are not standardised."""
    l2: bool = False
    """Divide each feature row by its Euclidean norm first, see `unit_rows`."""
    first: int = 0
    """Column of an encoder's features with which its own D begin, see `vlm.feature_kinds`."""

    def __post_init__(self) -> None:
        if self.weight_DC.ndim != 2:
            raise ValueError(f"weight_DC must have shape (features, labels), not {self.weight_DC.shape}")
        features, labels = self.weight_DC.shape
        for name, length in (("bias_C", labels), ("mean_D", features), ("scale_D", features)):
            if getattr(self, name).shape != (length,):
                raise ValueError(f"{name} must have shape ({length},), not {getattr(self, name).shape}")
        for name in ("weight_DC", "bias_C", "mean_D", "scale_D"):
            if getattr(self, name).dtype != np.float32:
                raise ValueError(f"{name} must be float32, not {getattr(self, name).dtype}")
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite")
        if self.first < 0:
            raise ValueError(f"first must be a column from 0, not {self.first}")
        if not (self.scale_D > 0).all():
            raise ValueError("scale_D must be positive: give a constant feature the scale 1")

    @property
    def columns(self) -> slice:
        """Those of an encoder's features that it reads."""
        return slice(self.first, self.first + len(self.mean_D))

    @classmethod
    def plain(
        cls, weight_DC: np.ndarray, bias_C: np.ndarray | None = None, *, l2: bool = False, first: int = 0
    ) -> "LinearHead":
        """A head on features as they are, or on their directions where `l2`; weights of any float type."""
        features, labels = weight_DC.shape
        return cls(
            weight_DC=np.ascontiguousarray(weight_DC, dtype=np.float32),
            bias_C=np.zeros(labels, np.float32) if bias_C is None else np.asarray(bias_C, np.float32),
            mean_D=np.zeros(features, np.float32),
            scale_D=np.ones(features, np.float32),
            l2=l2,
            first=first,
        )

    def logits(self, features_ND: np.ndarray) -> np.ndarray:
        """float32 logits (N, C) of an encoder's raw features, (N, at least `columns.stop`); ValueError on
        fewer."""
        x_NF = np.asarray(features_ND, dtype=np.float32)
        if x_NF.ndim != 2 or x_NF.shape[1] < self.columns.stop:
            raise ValueError(
                f"features_ND must have shape (images, {self.columns.stop} or more), not {x_NF.shape}"
            )
        x_ND = x_NF[:, self.columns]
        return normalised(x_ND, self.mean_D, self.scale_D, l2=self.l2) @ self.weight_DC + self.bias_C

    def tensors(self) -> dict[str, np.ndarray]:
        """The head as named arrays for a safetensors file; `from_tensors` is the inverse."""
        return {
            "weight_DC": np.ascontiguousarray(self.weight_DC),
            "bias_C": np.ascontiguousarray(self.bias_C),
            "mean_D": np.ascontiguousarray(self.mean_D),
            "scale_D": np.ascontiguousarray(self.scale_D),
            "l2": np.array([self.l2], dtype=np.uint8),
            "first": np.array([self.first], dtype=np.int64),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "LinearHead":
        """Rebuild from `tensors()`; KeyError where one is missing, ValueError where one does not fit."""
        for name, kind in (("l2", np.uint8), ("first", np.int64)):
            if tensors[name].shape != (1,) or tensors[name].dtype != kind:
                raise ValueError(f"{name} must be {np.dtype(kind)} (1,)")
        return cls(
            weight_DC=tensors["weight_DC"],
            bias_C=tensors["bias_C"],
            mean_D=tensors["mean_D"],
            scale_D=tensors["scale_D"],
            l2=bool(tensors["l2"][0]),
            first=int(tensors["first"][0]),
        )


def combined(
    heads: Sequence[LinearHead], weights: Sequence[float], intercept_C: np.ndarray | float = 0.0
) -> tuple[LinearHead, ...]:
    """The weighted sum of heads as few of them: an average of linear heads is a linear head.

    All that read features as they are become one over the union of their columns. Heads on directions (`l2`)
    become one a run of columns, since each divides by a length of its own.

    Args:
        heads: of one encoder's features and the same labels.
        weights: of their logits.
        intercept_C: added to their sum.

    Returns:
        heads whose *mean* logits, as `vlm.predictor.Predictor.scores` takes it, are the weighted sum.

    Raises:
        ValueError: no head, or not one weight per head.
    """
    if not heads or len(heads) != len(weights):
        raise ValueError(f"weights must be one a head, not {len(weights)} of {len(heads)} heads")
    groups: dict[tuple[int, int] | None, list[tuple[LinearHead, float]]] = {}
    for head, weight in zip(heads, weights, strict=True):
        key = (head.columns.start, head.columns.stop) if head.l2 else None
        groups.setdefault(key, []).append((head, float(weight)))
    return tuple(
        _summed(members, len(groups), intercept_C if place == 0 else 0.0)
        for place, members in enumerate(groups.values())
    )


def _summed(
    members: Sequence[tuple[LinearHead, float]], times: int, intercept_C: np.ndarray | float
) -> LinearHead:
    """`times` the weighted sum of heads that all read features as they are, or directions of one run."""
    first = min(head.first for head, _ in members)
    stop = max(head.columns.stop for head, _ in members)
    labels = len(members[0][0].bias_C)
    weight_DC, bias_C = np.zeros((stop - first, labels)), np.zeros(labels) + intercept_C
    # Of the members' means and scales, so that float32 loses nothing to large means or small scales.
    mean_D, scale_D, readers_D = np.zeros(stop - first), np.zeros(stop - first), np.zeros(stop - first)
    for head, weight in members:
        own = slice(head.first - first, head.columns.stop - first)
        raw_DC = head.weight_DC.astype(np.float64) / head.scale_D[:, None]
        weight_DC[own] += weight * raw_DC
        bias_C += weight * (head.bias_C - head.mean_D.astype(np.float64) @ raw_DC)
        mean_D[own] += head.mean_D
        scale_D[own] += head.scale_D
        readers_D[own] += 1
    read_D = readers_D > 0
    mean_D = (mean_D / np.maximum(readers_D, 1)).astype(np.float32)
    scale_D = np.where(read_D, scale_D / np.maximum(readers_D, 1), 1).astype(np.float32)
    bias_C += mean_D.astype(np.float64) @ weight_DC
    return LinearHead(
        weight_DC=(times * weight_DC * scale_D[:, None]).astype(np.float32),
        bias_C=(times * bias_C).astype(np.float32),
        mean_D=mean_D,
        scale_D=scale_D,
        l2=members[0][0].l2,
        first=first,
    )
