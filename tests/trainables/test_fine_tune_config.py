import math
import subprocess
import sys

import pytest

from search_spaces.configuration import Configuration
from search_spaces.fine_tune import SPACE
from tests.conftest import REPOSITORY
from tests.trainables.fine_tuning import LORA, params
from trainables.fine_tune_config import (
    PAPER_TRAINING,
    Method,
    Training,
    learning_rate_factor,
    tower_method,
    tower_rate,
    training_of,
)


def test_the_schedule_by_hand():
    training = Training(warm_up=0.25)
    factors = [learning_rate_factor(step, 8, training) for step in range(8)]
    cosine = [0.5 + 0.5 * math.cos(math.pi * i / 6) for i in range(6)]
    assert factors == pytest.approx([1 / 3, 2 / 3, *cosine])
    assert learning_rate_factor(0, 8, Training(warm_up=0)) == 1
    constant = Training(schedule="constant")
    assert [learning_rate_factor(step, 8, constant) for step in range(8)] == [1] * 8


@pytest.mark.parametrize(
    ("changes", "rate", "method"),
    [
        ({}, 1e-3, Method(name="full")),
        ({"method": "bitfit", "adapter_learning_rate": 0.0}, 0.0, Method(name="bitfit")),
        ({"method": "last_blocks", "last_blocks": 2}, 1e-3, Method(name="last_blocks", last_blocks=2)),
        (
            LORA,
            5e-3,
            Method(name="lora", lora_rank=2, lora_alpha=4.0, lora_dropout=0.2, lora_targets="attention+mlp"),
        ),
    ],
)
def test_what_a_configuration_means_for_the_tower(changes, rate, method):
    config = Configuration(SPACE, 3, params(**changes))
    assert tower_rate(config) == rate
    assert tower_method(config) == method


def test_configurations_outside_the_space_are_refused():
    with pytest.raises(ValueError, match="not one without lora_rank"):
        Configuration(SPACE, 0, {k: v for k, v in params(**LORA).items() if k != "lora_rank"})
    with pytest.raises(ValueError, match="must be names of the space fine_tune, not depth"):
        Configuration(SPACE, 0, params(depth=1))
    with pytest.raises(ValueError, match="lora_rank belongs to the method lora, not to full; leave it out"):
        Configuration(SPACE, 0, params(lora_rank=4))
    with pytest.raises(ValueError, match=r"epochs must be a whole number from 1 to 10000, not 2\.5"):
        Configuration(SPACE, 0, params(epochs=2.5))
    with pytest.raises(ValueError, match="number must be a whole number from 0, not -1"):
        Configuration(SPACE, -1, params())


def test_it_imports_nothing_of_weight():
    heavy = "torch", "peft", "numpy", "optuna", "open_clip"
    code = f"import sys, trainables.fine_tune_config; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"patience": 0}, "patience must be at least 1 or None, not 0"),
        ({"warm_up": 1.0}, "warm_up must be a share from 0 to below 1, not 1.0"),
        ({"clip_norm": 0.0}, "clip_norm must be positive or None, not 0.0"),
        ({"schedule": "linear"}, "schedule must be one of cosine, constant, not 'linear'"),
        ({"best_by": "luck"}, "best_by must be one of objective, loss, not 'luck'"),
    ],
)
def test_ways_of_training_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Training(**changes)


def test_a_published_configuration_is_trained_as_published_and_others_as_the_study_says():
    own = Training(batch_size=4)
    assert training_of("paper", own) is PAPER_TRAINING
    assert training_of("", own) is own
