"""The linear probe's space: what it draws, what a study may change, and what it refuses."""

import math
import warnings

import numpy as np
import optuna
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from cohort.errors import InputError
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import PAPER, PARAMETERS, SPACE, WARM_STARTS, check, suggest, warm_starts
from tests.trainables.drawn_probes import config
from tests.trainables.single_split import probe_data, training, validation
from trainables.linear_probe import train_bank
from trainables.losses import LOSSES
from trainables.trial_data import ProbeData

optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.filterwarnings("ignore:Argument ``group``")


def drawn(count, fixed=None, ranges=None, seed=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [suggest(study.ask(), fixed, ranges) for _ in range(count)]


def test_every_draw_is_a_whole_configuration_with_the_parameters_of_its_own_loss_only():
    own = {name: set(LOSSES[name].parameters) for name in PARAMETERS["loss"].search}
    everybody = set(PARAMETERS) - set().union(*own.values())
    draws = drawn(100)
    assert {params["loss"] for params in draws} == set(own)
    assert {params["features"] for params in draws} == {"projected", "deep"}
    for number, params in enumerate(draws):
        absent = {"normalisation", "anchor"} if params["features"] == "deep" else set()
        absent |= set() if params.get("anchor") == "zero_shot" else {"anchor_strength"}
        assert set(params) == (everybody | own[params["loss"]]) - absent
        Configuration(SPACE, number, params)


def test_the_papers_configuration_may_be_fixed():
    """It is not among those that can be drawn: its penalty is 0, which no logarithmic scale reaches."""
    check(PAPER)
    assert suggest(optuna.create_study().ask(), PAPER) == PAPER
    Configuration(SPACE, 0, PAPER)


@pytest.mark.parametrize("params", warm_starts())
def test_a_warm_start_lies_in_the_space(params):
    study = optuna.create_study()
    study.enqueue_trial(params)
    with warnings.catch_warnings(action="error"):  # Optuna only warns of a value outside its distribution
        assert suggest(study.ask()) == params
    Configuration(SPACE, 0, params)


def test_a_fixed_parameter_is_in_the_configuration_but_not_searched():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    params = suggest(trial, {"loss": "focal", "epochs": 50})
    assert (params["loss"], params["epochs"]) == ("focal", 50)
    assert not {"loss", "epochs"} & set(trial.params)
    assert "focal_gamma" in trial.params


def test_a_range_replaces_the_spaces_own_and_what_it_leaves_out_is_kept():
    ranges = {
        "learning_rate": {"high": 1e-3},
        "epochs": {"low": 5, "high": 5},
        "features": ["projected", "pooled"],
        "normalisation": ["l2"],
        "weight_decay": [0.1, 1.0],
    }
    draws = drawn(50, ranges=ranges)
    own = PARAMETERS["learning_rate"].search
    assert all(own.low <= params["learning_rate"] <= 1e-3 for params in draws)
    assert {params["epochs"] for params in draws} == {5}
    assert {params["normalisation"] for params in draws} == {"l2"}
    assert {params["weight_decay"] for params in draws} == {0.1, 1.0}


def test_tpe_learns_over_the_conditional_parameters():
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(60):
        trial = study.ask()
        params = suggest(trial)
        study.tell(trial, -abs(params.get("focal_gamma", 10.0) - 1))
    late = study.trials[40:]
    assert sum(trial.params["loss"] == "focal" for trial in late) > 10
    assert abs(study.best_params["focal_gamma"] - 1) < 0.2


def draw_data(seed, train=600, val=300, width=40) -> ProbeData:
    """Features of very different scale and four labels from common to rare, linear in them but for noise."""
    rng = np.random.default_rng(seed)
    x_ND = rng.standard_normal((train + val, width)) * np.linspace(2, 0.3, width) + 1
    evidence_NC = (x_ND - 1) @ rng.standard_normal((width, 4)) + 3 * rng.standard_normal((train + val, 4))
    targets_NC = (evidence_NC > np.array([0, 3, 6, 8])).astype(np.float32)
    return probe_data(
        x_ND[:train],
        targets_NC[:train],
        x_ND[train:],
        targets_NC[train:],
        val_patients_N=np.arange(val),
        val_folds_N=np.arange(val) % 5,
        labels=("heart", "effusion", "nodule", "hernia"),
    )


def best_logistic_regression(data: ProbeData) -> float:
    """Best validation macro average precision over a grid of C, standardised or not."""
    (train_ND, targets_NC), (held_ND, held_NC) = training(data), validation(data)
    mean_D, scale_D = train_ND.mean(0), train_ND.std(0)
    best = 0.0
    for mean, scale in ((0.0, 1.0), (mean_D, scale_D)):
        x_ND, val_ND = (train_ND - mean) / scale, (held_ND - mean) / scale
        for strength in np.logspace(-4, 2, 7):
            model = LogisticRegression(C=strength, max_iter=1000)
            scores_CN = [model.fit(x_ND, y_N).decision_function(val_ND) for y_N in targets_NC.T]
            best = max(best, average_precision_score(held_NC, np.transpose(scores_CN)))
    return best


@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_is_no_worse_than_the_best_logistic_regression_of_a_grid(seed):
    data = draw_data(seed)
    study = optuna.create_study(direction="maximize")
    fixed = {"features": "projected", "anchor": "none"}
    for start in warm_starts(fixed):
        study.enqueue_trial(start)
    for bank in range(8):
        study.sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=100 * seed + bank
        )
        trials = [study.ask() for _ in range(16)]
        configs = [Configuration(SPACE, trial.number, suggest(trial, fixed), seed) for trial in trials]
        for trial, result in zip(trials, train_bank(configs, data, seed=seed), strict=True):
            study.tell(trial, result.objective)
    assert study.best_value >= best_logistic_regression(data)


@pytest.mark.parametrize(
    ("fixed", "ranges", "message"),
    [
        (
            {"learning_rat": 0.1},
            {},
            "search.fixed.learning_rat: there is nothing of this name in the space linear_probe; "
            "did you mean learning_rate?",
        ),
        ({}, {"dropout": [0.1]}, "search.ranges.dropout: there is nothing of this name"),
        (
            {"epochs": 2.5},
            {},
            "search.fixed.epochs: must be a whole number from 1 to 10000, not 2.5",
        ),
        ({"epochs": True}, {}, "search.fixed.epochs: must be a whole number from 1 to 10000, not True"),
        (
            {"learning_rate": "fast"},
            {},
            "search.fixed.learning_rate: must be a number from 1e-08 to 10, not 'fast'",
        ),
        (
            {"pos_weight_power": float("nan")},
            {},
            "search.fixed.pos_weight_power: must be a number from 0 to 1, not nan",
        ),
        ({"loss": "hinge"}, {}, "search.fixed.loss: must be one of bce, focal, asymmetric"),
        (
            {"epochs": 5},
            {"epochs": {"low": 2, "high": 4}},
            "search.ranges.epochs: it is also in search.fixed; leave it in one of the two",
        ),
        ({"loss": "bce", "focal_gamma": 1.0}, {}, "search.fixed.focal_gamma: it belongs to the loss focal"),
        (
            {},
            {"loss": ["bce"], "asymmetric_clip": [0.0]},
            "search.ranges.asymmetric_clip: it belongs to the loss",
        ),
        (
            {"features": "deep", "anchor_strength": 1.0},
            {},
            "search.fixed.anchor_strength: it belongs to the features projected, which this study",
        ),
        ({}, {"loss": {"low": 0}}, "search.ranges.loss: must be a list out of bce, focal, asymmetric"),
        ({}, {"loss": []}, "search.ranges.loss: a list of choices must not be empty"),
        ({}, {"loss": ["bce", "bce"]}, "search.ranges.loss: a choice stands twice"),
        ({}, {"epochs": 5}, "search.ranges.epochs: must be {low, high, log} or a list of choices, not 5"),
        ({}, {"epochs": {"hgh": 5}}, "search.ranges.epochs.hgh: there is nothing of this name"),
        ({}, {"epochs": {"low": 90}}, "search.ranges.epochs: low must be at most high, not 90 > 80"),
        ({}, {"epochs": {"log": 1}}, "search.ranges.epochs.log: must be true or false, not 1"),
        (
            {},
            {"weight_decay": {"low": 0}},
            "search.ranges.weight_decay: on a log scale low must be positive, not 0",
        ),
    ],
)
def test_what_the_space_does_not_have_is_refused_in_one_line(fixed, ranges, message):
    with pytest.raises(InputError) as raised:
        check(fixed, ranges)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_warm_starts_keep_to_what_a_study_fixes_and_to_its_ranges():
    assert len(warm_starts()) == len(WARM_STARTS)
    assert all(start["loss"] == "bce" and "focal_gamma" not in start for start in warm_starts())
    focal = warm_starts({"epochs": 20, "loss": "focal"})
    assert len(focal) == len(WARM_STARTS)
    for start in focal:
        assert "focal_gamma" in start and not {"epochs", "loss", "asymmetric_clip"} & set(start)
    slow = warm_starts(ranges={"learning_rate": {"high": 0.1}, "normalisation": ["standardize"]})
    assert slow and all(start["learning_rate"] <= 0.1 for start in slow)
    assert warm_starts(ranges={"epochs": [10, 20]}) == []
    first = warm_starts()[0]
    fixed = {name: value for name, value in first.items() if name != "normalisation"}
    assert warm_starts(fixed) == [{"normalisation": "standardize"}, {"normalisation": "center"}]


def test_a_choice_that_a_configuration_lacks_governs_nothing():
    """On deep features there is no anchor, hence no strength of it either: two starts that differ in that
    strength alone are one training."""
    params = {"features": "deep", "anchor": "zero_shot"}
    assert not {"anchor", "anchor_strength"} & set(SPACE.names_under(params))
    deep = warm_starts({"features": "deep"})
    trained = [set((start | {"features": "deep"}).items()) for start in deep]
    assert all(one not in trained[:place] for place, one in enumerate(trained))
    assert all("anchor_strength" not in start for start in deep)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a number from 1e-08 to 10, not 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a number from 1e-08 to 10, not nan"),
        ({"weight_decay": -1e-9}, "weight_decay must be a number from 0 to 10000, not -1e-09"),
        ({"epochs": 0}, "epochs must be a whole number from 1 to 10000, not 0"),
        ({"loss": "hinge"}, "loss must be one of bce, focal, asymmetric, softmax, squared_emd, not 'hinge'"),
        ({"normalisation": None}, "normalisation must be one of none, l2, center, standardize, not None"),
        ({"pos_weight_power": 1.01}, "pos_weight_power must be a number from 0 to 1, not 1.01"),
        ({"focal_gamma": 2.0}, "focal_gamma belongs to the loss focal, not to bce; leave it out"),
    ],
)
def test_a_configuration_outside_its_bounds_is_refused(changes, message):
    with pytest.raises(ValueError) as raised:
        config(**changes)
    assert str(raised.value) == message


def test_params_must_be_exactly_one_whole_configuration():
    with pytest.raises(ValueError, match=r"not dropout$"):
        Configuration(SPACE, 0, PAPER | {"dropout": 0.1})
    with pytest.raises(ValueError, match=r"not one without focal_gamma$"):
        Configuration(SPACE, 0, PAPER | {"loss": "focal"})
