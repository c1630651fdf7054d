"""Features as the heads of one fold see them: of one kind, normalised on its training rows, and narrow.

A kind with more columns than there are training images says nothing beyond their span, so heads are trained
on coordinates in it and folded back onto the encoder's own columns: few images lose nothing by that, of many
the leading principal components are kept. What is learnt is still one weight per column.

Shape legend: V views of an image, N development images, D features of a kind, R coordinates, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.utils.extmath import randomized_svd

from trainables.trial_data import ProbeData
from vlm.feature_kinds import FeatureKind
from vlm.linear_head import LinearHead, combined, normalised, standardisation

WIDE = 1024
"""Columns up to which heads are trained on the features themselves."""
COMPONENTS = 512
"""Principal components kept of more training images than WIDE; 512 scored as all columns did."""
_SEED = 0


@dataclass(frozen=True, eq=False)
class FoldFeatures:
    """x = ((features - mean) / scale) @ basis, with features / |features| in place of them where `l2`."""

    x_VNR: np.ndarray
    """float32, of each view of all development rows."""
    mean_D: np.ndarray
    scale_D: np.ndarray
    basis_DR: np.ndarray | None
    """float32; None where x are the normalised features themselves, R = D."""
    l2: bool
    first: int
    """Of the kind's columns among the encoder's."""
    view_width: int
    """The encoder's columns from one view to the next."""

    @property
    def x_NR(self) -> np.ndarray:
        """float32, mean of the views: what a head says of an image is what it says of this."""
        return self.x_VNR[0] if len(self.x_VNR) == 1 else self.x_VNR.mean(axis=0)

    def training(self, rows_N: np.ndarray) -> np.ndarray:
        """float32 (V * N, R): of these rows first view by view, then image by image."""
        return self.x_VNR[:, rows_N].reshape(-1, self.x_VNR.shape[2])

    def direction(self, raw_DC: np.ndarray) -> np.ndarray:
        """float32 (R, C): what products with these directions among the encoder's own features are on the
        coordinates, up to a constant; of features of length 1 where `l2`."""
        scaled_DC = raw_DC * self.scale_D[:, None]
        return (scaled_DC if self.basis_DR is None else _solved(self.basis_DR, scaled_DC)).astype(np.float32)

    def head(self, weight_RC: np.ndarray, bias_C: np.ndarray) -> LinearHead:
        """A head on these coordinates as one on the encoder's own features, the mean over an
        image's views."""
        weight_DC = weight_RC if self.basis_DR is None else self.basis_DR @ weight_RC
        views = len(self.x_VNR)
        heads = [
            LinearHead(
                weight_DC=np.ascontiguousarray(weight_DC, dtype=np.float32),
                bias_C=np.array(bias_C, dtype=np.float32),
                mean_D=self.mean_D,
                scale_D=self.scale_D,
                l2=self.l2,
                first=self.first + view * self.view_width,
            )
            for view in range(views)
        ]
        return heads[0] if views == 1 else combined(heads, [1 / views] * views)[0]


def _solved(basis_DR: np.ndarray, weight_DC: np.ndarray) -> np.ndarray:
    """The coordinates' weights whose fold back is nearest: the basis's columns are orthogonal and alike."""
    return basis_DR.T @ weight_DC / np.square(basis_DR[:, 0]).sum()


def decomposed(kind: FeatureKind) -> bool:
    """Whether heads on this kind are trained on coordinates in the span of the images."""
    return kind.width > WIDE or len(kind.blocks) > 1


def fold_features(data: ProbeData, fold: int, kind: str, normalisation: str) -> FoldFeatures:
    """The features of a fold; those that took a decomposition are kept with the data.

    Args:
        kind: one of `data.kinds`.
        normalisation: none, l2, center (mean 0 and one common scale) or standardize (mean 0 and deviation 1
            of each, in a kind of several blocks over the root of its block's width, so that each block weighs
            the same), all measured on the fold's training rows.
    """
    prepared = data.prepared
    key = (fold, kind, normalisation)
    if key in prepared:
        return prepared[key]
    made = _made(data, fold, data.kinds[kind], normalisation)
    if made.basis_DR is not None:
        prepared[key] = made
    return made


def _made(data: ProbeData, fold: int, kind: FeatureKind, normalisation: str) -> FoldFeatures:
    if normalisation == "l2" and data.image_views > 1:
        raise ValueError("normalisation l2 knows one view: the mean over directions is no linear head")
    train_N, first = data.training_N(fold), kind.first
    features_VND = np.stack(
        [
            data.features_ND[:, first + start : first + start + kind.width]
            for start in range(0, data.features_ND.shape[1], data.view_width)
        ]
    )
    seen_ND = features_VND[:, train_N].reshape(-1, kind.width)
    mean_D, scale_D = np.zeros(kind.width, np.float32), np.ones(kind.width, np.float32)
    l2 = normalisation == "l2"
    if normalisation in ("center", "standardize"):
        centre_D, deviation_D = standardisation(seen_ND, one_scale=normalisation == "center")
        if normalisation == "standardize" and len(kind.blocks) > 1:
            deviation_D = deviation_D * np.sqrt(np.repeat(kind.blocks, kind.blocks))
        mean_D, scale_D = centre_D.astype(np.float32), deviation_D.astype(np.float32)
    x_VND = np.stack([normalised(one_ND, mean_D, scale_D, l2=l2) for one_ND in features_VND])
    if not decomposed(kind):
        return FoldFeatures(x_VND, mean_D, scale_D, None, l2, first, data.view_width)
    train_ND = x_VND[:, train_N].reshape(-1, kind.width)
    basis_DR = _basis(train_ND)
    x_VNR = x_VND @ basis_DR
    if normalisation in ("center", "standardize"):
        # As long as rows of that many standardised features: a learning rate or a penalty means the same.
        mean_square = np.mean(np.square(x_VNR[:, train_N], dtype=np.float64))
        unit = np.float32(1 / np.sqrt(mean_square))
        x_VNR, basis_DR = x_VNR * unit, basis_DR * unit
    return FoldFeatures(x_VNR, mean_D, scale_D, basis_DR, l2, first, data.view_width)


def _basis(x_ND: np.ndarray) -> np.ndarray:
    """float32 (D, R), orthonormal columns: of the rows' span, or of their leading principal components.

    They are turned once more at random. Along principal axes the variances differ a thousandfold, and AdamW,
    which gives every coordinate steps of one size, would follow the faintest as fast as the strongest;
    turned, all coordinates have about the same variance, as standardised features have.
    """
    if min(x_ND.shape) <= WIDE:
        _, strength_R, axes_RD = np.linalg.svd(x_ND, full_matrices=False)
        axes_RD = axes_RD[strength_R > strength_R[0] * np.finfo(np.float32).eps * max(x_ND.shape)]
    else:
        _, _, axes_RD = randomized_svd(x_ND, COMPONENTS, n_iter=2, random_state=_SEED)
    turn_RR, _ = np.linalg.qr(np.random.default_rng(_SEED).standard_normal((len(axes_RD), len(axes_RD))))
    return np.ascontiguousarray(axes_RD.T @ turn_RR, dtype=np.float32)
