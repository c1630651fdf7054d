"""How many patients with one image each would tell as much as patients with several.

Shape legend: N images, P patients, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cohort.patients import fewer_patients, fewer_side_patients


def effective_number(images_P: np.ndarray) -> float:
    """Kish's effective number of patients, (sum m)^2 / sum m^2, from the images m of each (Survey Sampling,
    1965, ch. 11): what is left where the images of a patient all say the same, the worst that can be.

    It is the number of patients where all have equally many images, and less where few have most. 0 without
    an image.

    >>> effective_number([1, 1, 1]), effective_number([4, 1, 1])
    (3.0, 2.0)
    """
    images_P = np.asarray(images_P, dtype=np.float64)
    return float(_kish(images_P[:, None])[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelPatients:
    """On how many patients each label's score rests.

    >>> label = LabelPatients(targets_NC=np.array([[1], [1], [0], [0]]), rows_N=np.array([0, 0, 1, 2]))
    >>> label.fewer_C.tolist(), label.sides_2C.tolist()
    ([1], [[1.0], [2.0]])
    """

    targets_NC: np.ndarray
    """0, 1 or NaN where masked."""
    rows_N: np.ndarray
    """int from 0, equal for images of one patient."""

    @cached_property
    def fewer_C(self) -> np.ndarray:
        """int64: patients on the smaller side, see `cohort.patients.fewer_patients`; they decide whether
        there is an interval at all."""
        return fewer_patients(self.targets_NC, self.rows_N)

    def together(self, labels: np.ndarray) -> int:
        """Patients on the smaller side of any of these labels (places), each counted once."""
        return fewer_side_patients(self.targets_NC[:, labels], self.rows_N)

    @cached_property
    def sides_2C(self) -> np.ndarray:
        """float64: effective numbers of the patients with a positive and of those with a negative image."""
        return np.stack([_kish(by_patient(self.targets_NC == side, self.rows_N)) for side in (1, 0)])

    @cached_property
    def effective_C(self) -> np.ndarray:
        """float64: the smaller of both sides, from which the degrees of freedom of an error follow; 2 at
        least, so that there is one."""
        return np.maximum(self.sides_2C.min(axis=0), 2.0)


def by_patient(values_NC: np.ndarray, rows_N: np.ndarray) -> np.ndarray:
    """float64 (P, C): sums over each patient's images; rows_N are integer codes from 0.

    >>> by_patient(np.array([[1], [2], [5]]), np.array([0, 0, 1])).tolist()
    [[3.0], [5.0]]
    """
    sums_PC = np.zeros((int(rows_N.max()) + 1, values_NC.shape[1]))
    np.add.at(sums_PC, rows_N, values_NC)
    return sums_PC


def _kish(images_PC: np.ndarray) -> np.ndarray:
    squares_C = (images_PC**2).sum(axis=0)
    return np.divide(images_PC.sum(axis=0) ** 2, squares_C, out=np.zeros_like(squares_C), where=squares_C > 0)
