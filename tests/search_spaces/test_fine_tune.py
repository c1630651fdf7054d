"""What the fine-tuning space asks for and refuses; the machinery it shares is tested with `parameters`."""

import optuna
import pytest

from cohort.errors import InputError
from search_spaces.fine_tune import PAPER, PARAMETERS, SPACE, check, suggest, warm_starts
from trainables.losses import LOSSES

UNDER_METHOD = {
    "full": {"tower_learning_rate", "layer_decay"},
    "last_blocks": {"tower_learning_rate", "layer_decay", "last_blocks"},
    "bitfit": {"adapter_learning_rate"},
    "lora": {"adapter_learning_rate", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets"},
}
ALWAYS = {
    *("method", "head_learning_rate", "weight_decay", "epochs", "loss", "pos_weight_power", "ema_decay"),
    *("augmentation", "init_head", "threshold_shrinkage"),
}


def asked(fixed=None, ranges=None, trials: int = 60) -> list[dict]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggest(study.ask(), fixed, ranges) for _ in range(trials)]


def test_a_configuration_has_the_parameters_of_its_method_and_loss_and_no_others():
    seen = set()
    for params in asked(trials=200):
        seen.add((params["method"], params["loss"]))
        assert set(params) == ALWAYS | UNDER_METHOD[params["method"]] | set(LOSSES[params["loss"]].parameters)
        assert all(PARAMETERS[name].complaint(value) == "" for name, value in params.items())
    assert len(seen) == len(UNDER_METHOD) * len(PARAMETERS["loss"].search)


def test_the_method_may_be_fixed_or_searched_among_some():
    assert {params["method"] for params in asked({"method": "bitfit"})} == {"bitfit"}
    few = asked(ranges={"method": ["lora", "bitfit"]})
    assert {params["method"] for params in few} == {"lora", "bitfit"}
    targets = asked({"method": "lora"}, {"lora_targets": ["qkv", "mlp"]})
    assert {params["lora_targets"] for params in targets} == {"qkv", "mlp"}


def test_a_list_of_numbers_and_an_interval_can_take_each_others_place():
    assert {params["ema_decay"] for params in asked()} == {0.0, 0.99, 0.999}
    between = {params["ema_decay"] for params in asked(ranges={"ema_decay": {"low": 0.9}})}
    assert len(between) == 60 and min(between) >= 0.9
    assert {params["epochs"] for params in asked(ranges={"epochs": [3, 5]})} == {3, 5}


@pytest.mark.parametrize("params", [PAPER, *warm_starts()], ids=lambda params: params["method"])
def test_named_configurations_are_whole_and_inside_the_space(params):
    assert set(params) == set(SPACE.names_under(params))
    check(params)
    trial = optuna.trial.FixedTrial(params)
    assert suggest(trial, ranges={name: [value] for name, value in params.items()}) == params


def test_the_papers_configuration():
    assert PAPER["method"] == "full" and PAPER["init_head"] == "fresh" and PAPER["loss"] == "bce"
    assert PAPER["tower_learning_rate"] == PAPER["head_learning_rate"] == 1e-5
    assert (PAPER["weight_decay"], PAPER["epochs"], PAPER["layer_decay"]) == (1e-2, 10, 1)
    assert PAPER["augmentation"] == PAPER["ema_decay"] == PAPER["pos_weight_power"] == 0


@pytest.mark.parametrize(
    ("fixed", "ranges", "message"),
    [
        (
            {"lora_rnak": 4},
            {},
            r"search.fixed.lora_rnak: .* in the space fine_tune; did you mean lora_rank\?",
        ),
        (
            {"method": "full", "lora_rank": 4},
            {},
            "search.fixed.lora_rank: it belongs to the method lora, which this study does not try",
        ),
        (
            {},
            {"method": ["lora", "bitfit"], "layer_decay": {"low": 0.7}},
            "search.ranges.layer_decay: it belongs to the method full or last_blocks",
        ),
        ({"method": "adapter"}, {}, "must be one of full, lora, last_blocks, bitfit, not 'adapter'"),
        ({"lora_targets": 3}, {}, "search.fixed.lora_targets: must be a name, not 3"),
        ({"epochs": 2.5}, {}, "search.fixed.epochs: must be a whole number from 1 to 10000, not 2.5"),
        ({}, {"lora_rank": {"low": 8, "high": 4}}, "low must be at most high, not 8 > 4"),
        ({}, {"ema_decay": {"low": 0.0, "log": True}}, "on a log scale low must be positive"),
        ({"augmentation": 1.5}, {}, "search.fixed.augmentation: must be a number from 0 to 1, not 1.5"),
    ],
)
def test_what_the_space_does_not_have_is_refused_in_one_line(fixed, ranges, message):
    with pytest.raises(InputError, match=message) as error:
        check(fixed, ranges)
    assert "\n" not in str(error.value)
