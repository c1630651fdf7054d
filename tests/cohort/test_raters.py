"""Several raters of one image."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cohort.errors import InputError
from cohort.raters import Raters, agreement, combine

NAN = np.nan


@pytest.mark.parametrize(
    ("ratings", "any_", "majority", "all_"),
    [
        ([1, 0, 0], 1, 0, 0),
        ([1, 1, 0], 1, 1, 0),
        ([1, 1, 1], 1, 1, 1),
        ([1, 0], 1, -1, 0),
        ([1, -1], 1, -1, -1),
        ([0, -1], -1, -1, 0),
        ([1, NAN], 1, 1, 1),
        ([NAN, NAN], NAN, NAN, NAN),
    ],
)
def test_one_answer_out_of_several(ratings, any_, majority, all_):
    raw_RC, image_R = np.array(ratings)[:, None], np.zeros(len(ratings), dtype=int)
    for rule, expected in (("any", any_), ("majority", majority), ("all", all_)):
        np.testing.assert_array_equal(combine(raw_RC, image_R, rule), [[expected]])


def test_two_raters_are_compared_by_cohens_kappa():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2, (2, 80))
    second = np.where(rng.random(80) < 0.6, first, second)
    raw_RC = np.concatenate([first, second]).astype(float)[:, None]
    found = agreement(raw_RC, np.tile(np.arange(80), 2), ["a"] * 80 + ["b"] * 80, ["Edema"], "any")
    assert found.statistic == "Cohen's kappa" and found.count == 2 and found.images == 80
    assert found.kappa["Edema"] == pytest.approx(cohen_kappa_score(first, second))
    assert found.disagreements["Edema"] == (first != second).sum()


def test_more_raters_are_compared_by_fleiss_kappa():
    """By hand, from the formula of Fleiss (1971)."""
    ratings = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=float)
    found = agreement(
        ratings.reshape(-1, 1), np.repeat(np.arange(4), 3), ["a", "b", "c"] * 4, ["Edema"], "majority"
    )
    observed, positive = (1 + 1 / 3 + 1 + 1) / 4, 5 / 12
    chance = positive**2 + (1 - positive) ** 2
    assert found.statistic == "Fleiss' kappa" and found.disagreements == {"Edema": 1}
    assert found.kappa["Edema"] == pytest.approx((observed - chance) / (1 - chance))


def test_agreement_on_one_answer_only_has_no_kappa():
    found = agreement(np.zeros((4, 1)), np.array([0, 0, 1, 1]), ["a", "b", "a", "c"], ["Edema"], "all")
    assert found.kappa == {"Edema": None} and found.disagreements == {"Edema": 0}


def test_what_is_written_is_read_and_nothing_else():
    found = agreement(np.zeros((2, 1)), np.array([0, 0]), ["a", "b"], ["Edema"], "all")
    assert Raters.from_dict(found.to_dict()) == found
    with pytest.raises(InputError, match="kappas from -1 to 1"):
        Raters.from_dict(found.to_dict() | {"kappa": {"Edema": 7}})
