"""Which labels may be the classes of one question."""

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.labels import NO_FINDING
from cohort.multiclass import check_multiclass, is_multiclass, more_than_chance

NAN = np.nan
ONE_A_ROW = np.array([[1, 0], [0, 1], [NAN, NAN], [0, 1]])


def test_one_label_a_row_with_rows_that_are_masked_whole():
    assert is_multiclass(ONE_A_ROW)
    check_multiclass(ONE_A_ROW, ["A", "B"], list("abcd"))


@pytest.mark.parametrize("row", [[1, 1], [0, 0], [1, NAN], [0, NAN]])
def test_two_none_or_a_masked_cell_make_independent_findings(row):
    targets_NC = np.vstack([ONE_A_ROW, row])
    assert not is_multiclass(targets_NC)
    with pytest.raises(InputError, match="exactly one a row, but image 'e' has"):
        check_multiclass(targets_NC, ["A", "B"], list("abcde"))


def test_one_label_alone_and_nothing_known_are_no_classes():
    assert not is_multiclass(ONE_A_ROW[:, :1])
    assert not is_multiclass(np.full((3, 2), NAN))
    with pytest.raises(InputError, match="two at least, got A"):
        check_multiclass(ONE_A_ROW[:, :1], ["A"], list("abcd"))


@pytest.mark.parametrize(("rows", "more"), [(8, False), (10, True)])
def test_two_labels_of_half_the_rows_each_are_one_a_row_by_chance_in_one_of_two(rows, more):
    """0.5 ** 8 is 1 in 256, 0.5 ** 10 is 1 in 1,024."""
    targets_NC = np.eye(2)[np.arange(rows) % 2]
    assert more_than_chance(targets_NC, ["A", "B"]) is more
    assert more_than_chance(np.vstack([targets_NC, np.full((50, 2), NAN)]), ["A", "B"]) is more


def test_chance_agrees_with_a_simulation():
    """Of tables of independent labels with shares 1/2, 1/4 and 1/4, so many rows have exactly one label."""
    drawn = np.random.default_rng(0).random((200_000, 3)) < [0.5, 0.25, 0.25]
    one = (drawn.sum(axis=1) == 1).mean()
    assert one == pytest.approx(15 / 32, abs=0.005)  # 9/32 + 3/32 + 3/32
    assert one**8 > 1e-3 > one**12
    targets_NC = np.eye(3)[[0, 0, 1, 2]]
    assert not more_than_chance(np.tile(targets_NC, (2, 1)), ["A", "B", "C"])
    assert more_than_chance(np.tile(targets_NC, (3, 1)), ["A", "B", "C"])


def test_findings_that_are_rare_seldom_meet_by_themselves():
    """Two findings with a share of 1/10 each meet in a row of a hundred: 20 rows show nothing, 900 do."""
    targets_NC = np.eye(3)[[0, 1, *[2] * 8]]
    labels = ["A", "B", NO_FINDING]
    assert not more_than_chance(np.tile(targets_NC, (2, 1)), labels)
    assert more_than_chance(np.tile(targets_NC, (90, 1)), labels)


def test_one_finding_and_no_finding_are_one_question():
    assert more_than_chance(np.eye(2), ["A", NO_FINDING])
