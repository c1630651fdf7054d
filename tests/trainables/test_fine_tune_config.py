import math

import pytest

from tests.trainables.conftest import BUSY, LORA, params
from trainables.fine_tune_config import FineTuneConfig, Training, learning_rate_factor


def test_the_schedule_by_hand():
    training = Training(warm_up=0.25)
    factors = [learning_rate_factor(step, 8, training) for step in range(8)]
    cosine = [0.5 + 0.5 * math.cos(math.pi * i / 6) for i in range(6)]
    assert factors == pytest.approx([1 / 3, 2 / 3, *cosine])
    assert learning_rate_factor(0, 8, Training(warm_up=0)) == 1
    constant = Training(schedule="constant")
    assert [learning_rate_factor(step, 8, constant) for step in range(8)] == [1] * 8


def test_a_configuration_comes_back_as_its_params():
    for changes in ({}, LORA, {"method": "last_blocks", "last_blocks": 2}, BUSY):
        config = FineTuneConfig.from_params(3, params(**changes), seed=4)
        assert FineTuneConfig.from_params(3, config.params, seed=4) == config
        assert config.params == params(**changes)


def test_configurations_outside_the_space_are_refused():
    with pytest.raises(ValueError, match="not one without lora_rank"):
        FineTuneConfig.from_params(0, {k: v for k, v in params(**LORA).items() if k != "lora_rank"})
    with pytest.raises(ValueError, match="must be names of the space fine_tune, not depth"):
        FineTuneConfig.from_params(0, params(depth=1))
    with pytest.raises(ValueError, match="lora_rank belongs to the method lora; without it must be 0, not 4"):
        FineTuneConfig.from_params(0, params(lora_rank=4))
    with pytest.raises(ValueError, match=r"epochs must be a whole number from 1 to 10000, not 2\.5"):
        FineTuneConfig.from_params(0, params(epochs=2.5))
    with pytest.raises(ValueError, match="number must be a whole number from 0, not -1"):
        FineTuneConfig.from_params(-1, params())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"patience": 0}, "patience must be at least 1 or None, not 0"),
        ({"warm_up": 1.0}, "warm_up must be a share from 0 to below 1, not 1.0"),
        ({"clip_norm": 0.0}, "clip_norm must be positive or None, not 0.0"),
        ({"schedule": "linear"}, "schedule must be one of cosine, constant, not 'linear'"),
        ({"objective": "auc"}, "objective must be one of macro_ap, macro_auroc, macro_f1, not 'auc'"),
        ({"best_by": "luck"}, "best_by must be one of objective, loss, not 'luck'"),
    ],
)
def test_ways_of_training_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Training(**changes)
