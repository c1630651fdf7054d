"""How many patients count: Kish's number by hand, and the smaller side of a label."""

import numpy as np
import pytest

from scoring.effective_patients import LabelPatients, effective_number


def test_kishs_number_by_hand():
    assert effective_number(np.array([1, 1, 1])) == 3
    assert effective_number(np.array([5, 5])) == 2
    assert effective_number(np.array([4, 1, 1])) == pytest.approx(2)
    assert effective_number(np.array([4, 1, 1, 0])) == pytest.approx(2)
    assert effective_number(np.array([0])) == 0


def test_the_smaller_side_counts_whichever_it_is():
    targets_NC = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, np.nan], [0, 1]], dtype=float)
    patients = LabelPatients(targets_NC=targets_NC, rows_N=np.array([0, 1, 2, 3, 4, 4, 4, 5]))
    assert patients.fewer_C.tolist() == [2, 2]
    # Negatives of the first label: 3 images of one patient, 1 of another, 16 / 10, but 2 at least.
    np.testing.assert_allclose(patients.sides_2C, [[4, 9 / 5], [16 / 10, 4]])
    assert patients.effective_C.tolist() == [2, 2]
    # Of both together patients 4 and 5, as negatives of the first label and positives of the second.
    assert patients.together(np.array([0, 1])) == 2
