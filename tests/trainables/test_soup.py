"""Averages of towers, worked by hand, and the greedy recipe against brute force."""

import pytest
import torch

from trainables.records import TrialRecord
from trainables.soup import averaged, greedy_soup, interpolated


def state(value, steps=3):
    return {"weight": torch.tensor([value, 2 * value]), "steps": torch.tensor(steps)}


def test_an_average_is_the_mean_of_each_tensor_and_counts_are_the_firsts():
    mean = averaged([state(1.0, steps=3), state(4.0, steps=9)])
    assert mean["weight"].tolist() == [2.5, 5.0] and mean["weight"].dtype == torch.float32
    assert mean["steps"] == 3


def test_a_soup_of_identical_members_is_the_member_to_the_bit():
    one = {"weight": torch.randn(50, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(averaged([one] * 3)["weight"], one["weight"])


def test_interpolation_at_its_ends_is_the_ends_to_the_bit():
    start, end = {"weight": torch.randn(50)}, {"weight": torch.randn(50)}
    assert torch.equal(interpolated(start, end, 0.0)["weight"], start["weight"])
    assert torch.equal(interpolated(start, end, 1.0)["weight"], end["weight"])
    middle = interpolated(state(1.0), state(5.0), 0.25)
    assert middle["weight"].tolist() == [2.0, 4.0]


def nearness(target):
    def judge(one):
        value = -abs(float(one["weight"][0]) - target)
        return TrialRecord(number=0, params={}, state="COMPLETE", objective=value)

    return judge


@pytest.mark.parametrize(
    ("values", "target", "members", "reached"),
    [
        ([1.0, 3.0, 9.0], 2.0, [0, 1], 0.0),  # 9 would move the average of 2 away
        ([1.0, 0.0, 5.0], 2.0, [0, 2], -1.0),  # (1 + 5) / 2 = 3 is as near as 1, and so joins
        ([2.0, 2.0], 2.0, [0, 1], 0.0),
        ([2.0], 5.0, [0], -3.0),
    ],
)
def test_a_member_joins_where_the_average_is_no_worse(values, target, members, reached):
    found, judged = greedy_soup([state(value) for value in values], nearness(target))
    assert (found, judged.objective) == (members, reached)


def test_the_soup_is_never_worse_than_the_first():
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        states = [{"weight": torch.randn(1, generator=generator)} for _ in range(5)]
        judge = nearness(0.3)
        _, reached = greedy_soup(states, judge)
        assert reached.objective >= judge(states[0]).objective
