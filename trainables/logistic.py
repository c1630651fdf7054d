"""The plain method that a search has to beat: logistic regression on the same frozen features, one a label,
or one multinomial where labels are exclusive.

Shape legend: N development images, D features, C labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from scoring.judging import SHRINKAGE, judge, objective
from scoring.metrics import prevalences
from trainables.records import TrialRecord, judged_fields
from trainables.trial_data import ProbeData
from vlm.linear_head import LinearHead, standardisation

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation strengths C; 1e-5 leaves little but the prevalence."""
STEPS = 500
"""Of L-BFGS, at most."""


class GivenUp(Exception):
    """Nobody waits for the regressions any more."""


def train_logistic(
    data: ProbeData,
    *,
    objective_name: str,
    strengths: Sequence[float] = STRENGTHS,
    common_scale: bool = False,
    given_up: Callable[[], bool] = lambda: False,
) -> TrialRecord:
    """L2-regularised logistic regression on standardised features, C by the study's objective: one a label,
    or one multinomial over exclusive labels.

    A masked entry drops out of its label's fit; a label whose known entries are all alike gets its constant
    prevalence.

    Args:
        data: one fold.
        objective_name: one of `scoring.judging.OBJECTIVES`.
        strengths: values of C, ascending; of equally good ones the smaller is taken.
        common_scale: divide all features by one scale instead of each by its own, which is right where all
            are measured in one unit, as pixels are: a border that hardly varies is not blown up.

        given_up: asked before each regression; where it says so, no other is fitted.

    Returns:
        a record that is no trial of the study, its parameter C and in its curve the objective of each C; its
        warning says how many regressions did not converge.

    Raises:
        GivenUp: it was, before all were fitted.
    """
    train_N, judged_N, rows = data.training_N(), data.judged_N(), data.judged()
    train_ND, train_targets_NC = data.features_ND[train_N], data.targets_NC[train_N]
    fit = _fit_classes if data.exclusive else _fit
    mean_D, scale_D = standardisation(train_ND, one_scale=common_scale)
    x_ND = (train_ND - mean_D) / scale_D
    if common_scale:
        x_ND = x_ND.astype(np.float32)  # pixels have eight bits, and thousands of them take half the time

    best_head, best_value, best_strength, curve = None, -np.inf, strengths[0], []
    unconverged = 0
    for strength in strengths:
        with threadpool_limits(1):  # products so small that BLAS threads would only wait for each other
            weight_DC, bias_C, stopped = fit(x_ND, train_targets_NC, strength, given_up)
        unconverged += stopped
        head = LinearHead(
            weight_DC=weight_DC.astype(np.float32),
            bias_C=bias_C.astype(np.float32),
            mean_D=mean_D.astype(np.float32),
            scale_D=scale_D.astype(np.float32),
        )
        logits_1NC = head.logits(data.features_ND[judged_N])[None]
        value = float(objective(objective_name, logits_1NC, rows, [SHRINKAGE])[0])
        curve.append({"C": float(strength), "objective": value})
        if best_head is None or value > best_value:
            best_head, best_value, best_strength = head, value, float(strength)
    (judged,) = judge(best_head.logits(data.features_ND[judged_N])[None], rows, [SHRINKAGE])
    fits = len(strengths) * (1 if data.exclusive else len(data.labels))
    what = f"{unconverged} of {fits} logistic regressions stopped after {STEPS} steps, before they converged"
    return TrialRecord(
        number=-1,
        params={"C": best_strength},
        state="COMPLETE",
        objective=best_value,
        curve=curve,
        warnings=[what] if unconverged else [],
        precision=data.precision,
        arrays=best_head.tensors(),
        **judged_fields(judged),
    )


def _fit(
    x_ND: np.ndarray, targets_NC: np.ndarray, strength: float, given_up: Callable[[], bool]
) -> tuple[np.ndarray, np.ndarray, int]:
    """weight_DC, bias_C, and how many labels' regressions used up their steps; GivenUp."""
    weight_DC = np.zeros((x_ND.shape[1], targets_NC.shape[1]))
    bias_C = np.zeros(targets_NC.shape[1])
    unconverged = 0
    for c, prevalence in enumerate(prevalences(targets_NC)):
        known_N = ~np.isnan(targets_NC[:, c])
        positives = np.sum(targets_NC[:, c] == 1)
        if positives in (0, known_N.sum()):
            bias_C[c] = np.log(prevalence / (1 - prevalence))
            continue
        x_known_ND = x_ND if known_N.all() else x_ND[known_N]
        model, stopped = _regression(x_known_ND, targets_NC[known_N, c] == 1, strength, given_up)
        unconverged += stopped
        weight_DC[:, c], bias_C[c] = model.coef_[0], model.intercept_[0]
    return weight_DC, bias_C, unconverged


def _fit_classes(
    x_ND: np.ndarray, targets_NC: np.ndarray, strength: float, given_up: Callable[[], bool]
) -> tuple[np.ndarray, np.ndarray, int]:
    """As `_fit`, by one multinomial regression; a label that does not occur gets the log of its prevalence,
    and all do where only one occurs."""
    weight_DC = np.zeros((x_ND.shape[1], targets_NC.shape[1]))
    bias_C = np.log(prevalences(targets_NC))
    known_N = ~np.isnan(targets_NC).any(axis=1)
    truth_N = targets_NC[known_N].argmax(axis=1)
    if len(np.unique(truth_N)) < 2:
        return weight_DC, bias_C, 0
    x_known_ND = x_ND if known_N.all() else x_ND[known_N]
    model, stopped = _regression(x_known_ND, truth_N, strength, given_up)
    coef_CD, intercept_C = model.coef_, model.intercept_
    if len(intercept_C) == 1:  # of two labels scikit-learn gives the difference of their logits
        halves = np.array([-0.5, 0.5])
        coef_CD, intercept_C = halves[:, None] * coef_CD, halves * intercept_C
    weight_DC[:, model.classes_], bias_C[model.classes_] = coef_CD.T, intercept_C
    return weight_DC, bias_C, stopped


def _regression(
    x_ND: np.ndarray, classes_N: np.ndarray, strength: float, given_up: Callable[[], bool]
) -> tuple[LogisticRegression, int]:
    """A fitted regression, and 1 where it used up its steps; GivenUp."""
    if given_up():
        raise GivenUp
    model = LogisticRegression(C=strength, max_iter=STEPS)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        model.fit(x_ND, classes_N)
    return model, int(model.n_iter_[0] >= STEPS)
