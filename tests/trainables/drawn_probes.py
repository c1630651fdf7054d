"""Drawn data and heads for the tests of a bank of linear probes.

Shape legend: N images of a split, D features, C labels.
"""

from dataclasses import replace

import numpy as np
import pytest

from cohort.patients import patient_folds
from search_spaces.configuration import Configuration
from search_spaces.linear_probe import SPACE
from tests.trainables.single_split import probe_data
from trainables.trial_data import ProbeData
from vlm.feature_kinds import FeatureKind

LABELS = ("heart", "effusion", "nodule", "hernia")


def draw_data(seed=0, train=160, val=80, width=12) -> ProbeData:
    """Four labels from common to rare, two images a patient, features away from the origin."""
    rng = np.random.default_rng(seed)
    x_ND = rng.standard_normal((train + val, width)) * np.linspace(2, 0.3, width) + 1
    evidence_NC = (x_ND - 1) @ rng.standard_normal((width, 4)) / 2 + rng.standard_normal((train + val, 4))
    targets_NC = evidence_NC > np.quantile(evidence_NC, [0.5, 0.7, 0.85, 0.9], axis=0).diagonal()
    patients_N = np.arange(val) // 2
    val_targets_NC = targets_NC[train:].astype(np.float32)
    return probe_data(
        x_ND[:train],
        targets_NC[:train],
        x_ND[train:],
        val_targets_NC,
        val_patients_N=patients_N,
        val_folds_N=patient_folds(val_targets_NC, patients_N, folds=3),
        labels=LABELS,
    )


def config(number=0, seed=0, **changes) -> Configuration:
    plain = {
        "features": "projected",
        "anchor": "none",
        "learning_rate": 0.03,
        "weight_decay": 0.1,
        "l2_penalty": 0.0,
        "epochs": 6,
        "normalisation": "none",
        "loss": "bce",
        "pos_weight_power": 0.0,
        "threshold_shrinkage": 5.0,
    }
    params = plain | changes
    if params["features"] not in ("projected", "pooled"):
        del params["normalisation"], params["anchor"]
    return Configuration(SPACE, number, params, seed)


def mixed_bank() -> list[Configuration]:
    """Every normalisation under every loss, with lengths, rates and decays of their own."""
    losses = [
        {"loss": "bce"},
        {"loss": "focal", "focal_gamma": 2.0, "pos_weight_power": 0.5},
        {
            "loss": "asymmetric",
            "asymmetric_gamma_negative": 4.0,
            "asymmetric_gamma_positive": 1.0,
            "asymmetric_clip": 0.05,
        },
    ]
    return [
        config(
            number,
            **losses[number % 3],
            normalisation=("standardize", "none", "l2", "center")[number // 3 % 4],
            learning_rate=(0.003, 0.1)[number % 2],
            weight_decay=(0.001, 3.0)[number % 2],
            l2_penalty=(0.0, 0.01, 0.3)[number // 2 % 3],
            epochs=20 + 7 * (number % 4),
        )
        for number in range(24)
    ]


def assert_same(one, other, tolerance):
    assert (one.number, one.state, one.epoch) == (other.number, other.state, other.epoch)
    assert one.objective == pytest.approx(other.objective, rel=tolerance)
    scale = np.abs(other.head.weight_DC).max()
    np.testing.assert_allclose(one.head.weight_DC, other.head.weight_DC, rtol=0, atol=tolerance * scale)
    scale = np.abs(other.head.bias_C).max()
    np.testing.assert_allclose(one.head.bias_C, other.head.bias_C, rtol=0, atol=tolerance * scale)


def folded(seed=0, images=240, width=12, blocks=None) -> ProbeData:
    """The same kind of data in five folds of patients; with `blocks` their columns are deep features."""
    data = replace(draw_data(seed, images // 2, images // 2, width), patients_N=np.arange(images) // 2)
    if blocks:
        whole = FeatureKind("projected", 0, (width,))
        data = replace(data, kinds={"projected": whole, "deep": FeatureKind("deep", 0, blocks)})
    return data.cross_validated(5, seed=0, enough=5)


def anchored(seed=0):
    """Data with text that points where the first labels' evidence lies."""
    data = folded(seed)
    text_CD = np.random.default_rng(seed).normal(size=(4, 12)).astype(np.float32)
    return replace(data, text_CD=text_CD)


def draw_classes() -> ProbeData:
    """The same features with the label that they speak for most."""
    data = draw_data(train=300, val=150)
    truth_N = (data.features_ND @ np.random.default_rng(1).standard_normal((12, 4))).argmax(1)
    return replace(data, targets_NC=np.eye(4, dtype=np.float32)[truth_N], multiclass=True)
