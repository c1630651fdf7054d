"""Which labels may be the classes of one question."""

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.exclusive import check_exclusive, is_exclusive

NAN = np.nan
ONE_A_ROW = np.array([[1, 0], [0, 1], [NAN, NAN], [0, 1]])


def test_one_label_a_row_with_rows_that_are_masked_whole():
    assert is_exclusive(ONE_A_ROW)
    check_exclusive(ONE_A_ROW, ["A", "B"])


@pytest.mark.parametrize("row", [[1, 1], [0, 0], [1, NAN], [0, NAN]])
def test_two_none_or_a_masked_cell_make_independent_findings(row):
    targets_NC = np.vstack([ONE_A_ROW, row])
    assert not is_exclusive(targets_NC)
    with pytest.raises(InputError, match="exactly one a row, but row 5 has"):
        check_exclusive(targets_NC, ["A", "B"])


def test_one_label_alone_and_nothing_known_are_no_classes():
    assert not is_exclusive(ONE_A_ROW[:, :1])
    assert not is_exclusive(np.full((3, 2), NAN))
    with pytest.raises(InputError, match="two at least, got A"):
        check_exclusive(ONE_A_ROW[:, :1], ["A"])
