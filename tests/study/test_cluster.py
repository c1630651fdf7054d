"""What of Ray's resources a trial may ask for. `tests.study.test_driver` starts Ray itself."""

import math
from types import SimpleNamespace

import pytest

from cohort.errors import InputError
from study.cluster import Capacity
from study.config import FineTuneSettings, SearchSettings
from study.fine_tune import Adapter as FineTune
from study.linear_probe import Adapter as LinearProbe
from study.linear_probe import bank_resources


def capacity(cpus: int, gpus: float = 0, cpus_a_node: int | None = None, cpus_a_gpu: float = math.inf):
    return Capacity(cpus=cpus, gpus=gpus, cpus_a_node=cpus_a_node or cpus, cpus_a_gpu=cpus_a_gpu)


def test_trials_share_the_cpus_and_each_gets_one_at_least():
    assert capacity(16).threads(2) == 8
    assert capacity(2).threads(3) == 1


def test_no_trial_asks_for_more_than_its_node_has():
    # A head of 16 cpus and two workers of 8: half of all cpus is on no worker.
    assert capacity(32, cpus_a_node=8).threads(2) == 8
    assert capacity(32, gpus=2, cpus_a_node=8, cpus_a_gpu=8).threads(2) == 8
    # Four trials on each of two GPUs of one node.
    assert capacity(64, gpus=4, cpus_a_node=16, cpus_a_gpu=8).threads(16, trials_per_gpu=4) == 2
    assert capacity(64, gpus=4, cpus_a_node=2, cpus_a_gpu=0.5).threads(16, trials_per_gpu=4) == 1


@pytest.mark.parametrize(
    ("gpus", "trials_per_gpu", "concurrent"), [(0, 1, 2), (2, 1, 2), (1, 3, 3), (0.5, 2, 1)]
)
def test_fine_tuning_runs_as_many_trials_as_find_room(gpus, trials_per_gpu, concurrent):
    config = SimpleNamespace(
        search=SearchSettings(), fine_tune=FineTuneSettings(trials_per_gpu=trials_per_gpu)
    )
    plan = FineTune(config, None, None).plan(capacity(8, gpus), done=0, deadline=math.inf)
    assert plan.concurrent == concurrent and plan.bank_size == 1


def test_less_gpu_than_one_trial_takes_is_refused():
    config = SimpleNamespace(search=SearchSettings(), fine_tune=FineTuneSettings())
    with pytest.raises(InputError, match=r"resources\.gpus: 0\.5 is less than one trial takes"):
        FineTune(config, None, None).plan(capacity(8, 0.5), done=0, deadline=math.inf)


@pytest.mark.parametrize(
    ("gpus", "banks", "each"), [(0, 2, 0), (0.5, 1, 0.5), (1, 1, 1), (2.5, 2, 1), (4, 4, 1)]
)
def test_a_bank_of_probes_asks_for_a_share_of_a_gpu_or_a_whole_one(gpus, banks, each):
    """Ray refuses 1.25."""
    config = SimpleNamespace(search=SearchSettings())
    plan = LinearProbe(config, None, None).plan(capacity(2, gpus), done=0, deadline=math.inf)
    assert (plan.concurrent, bank_resources(plan, capacity(2, gpus))[1]) == (banks, each)
