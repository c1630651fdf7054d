"""The plain method that a search has to beat: logistic regression on the same frozen features, one a label,
or one multinomial where labels are multiclass.

Shape legend: N development images, M judged ones, R coordinates of their features, C labels, S strengths.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from scoring.judging import OBJECTIVES, SHRINKAGE, judge
from scoring.metrics import prevalences
from trainables.baselines import LOGREG, LOGREG_DEEP
from trainables.baselines.base import Baseline, BaselineInputs, GivenUp, chosen
from trainables.fold_features import fold_features
from trainables.pooling import pooled
from trainables.records import TrialRecord, fold_objectives, judged_fields
from trainables.trial_data import ProbeData
from vlm.feature_kinds import DEEP, FeatureKind, base_kind
from vlm.linear_head import LinearHead, combined

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation strengths C; 1e-5 leaves little but the prevalence."""
STEPS = 500
"""Of L-BFGS, at most."""


def fit(inputs: BaselineInputs) -> Iterator[Baseline]:
    """On the base features, and on deep ones where the encoder has them; C the best on validation."""
    for id, kind in regressed_kinds(inputs.data.kinds).items():
        records = inputs.kept.get(id) or train_logistic(
            inputs.data, objective_name=inputs.objective, kind=kind, given_up=inputs.given_up
        )
        note = f"logistic regression on the frozen {kind} features, C = {chosen(records).params['C']:g}"
        note += ", chosen on validation"
        yield Baseline(id=id, note=note, records=records, encoder=inputs.encoder)


def regressed_kinds(kinds: Mapping[str, FeatureKind]) -> dict[str, str]:
    """Id of a plain logistic regression -> the kind of features that it is fitted on."""
    base = base_kind(kinds).name
    return {LOGREG: base} | ({LOGREG_DEEP: DEEP} if DEEP in kinds and base != DEEP else {})


def train_logistic(
    data: ProbeData,
    *,
    objective_name: str,
    kind: str = "",
    strengths: Sequence[float] = STRENGTHS,
    common_scale: bool = False,
    given_up: Callable[[], bool] = lambda: False,
) -> tuple[TrialRecord, ...]:
    """L2-regularised logistic regression on standardised features, one of each strength: one a label, or one
    multinomial over multiclass labels.

    Each fold's regressions are fitted on the rows outside it and score its own, which are judged together
    (`trainables.pooling`); the head of a record is the average of its folds' heads. A masked entry drops out
    of its label's fit; a label whose known entries are all alike gets its constant prevalence.

    Args:
        objective_name: one of `scoring.judging.OBJECTIVES`.
        kind: of the features; the base kind where none is named.
        strengths: values of C, ascending.
        common_scale: divide all features by one scale instead of each by its own, which is right where all
            are measured in one unit, as pixels are: a border that hardly varies is not blown up.
        given_up: asked before each regression; where it says so, no other is fitted.

    Returns:
        one record per strength, ascending, no trials of a study, their parameters `C` and `features`; the
        best is `base.chosen`, of equally good ones the one regularised more. The warnings
        of each say how many regressions did not converge.

    Raises:
        GivenUp: it was, before all were fitted.
        ValueError: an unknown objective.
    """
    if objective_name not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective_name!r}")
    kind = kind or base_kind(data.kinds).name
    judged_N, rows = data.judged_N(), data.judged()
    place_N = np.searchsorted(judged_N, np.arange(len(data.rows_N)))
    held_out_SMC = np.zeros((len(strengths), len(judged_N), len(data.labels)), np.float32)
    heads: list[list[LinearHead]] = [[] for _ in strengths]
    unconverged = np.zeros(len(strengths), dtype=int)
    fit = _fit_classes if data.multiclass else _fit
    for fold in range(data.folds):
        features = fold_features(data, fold, kind, "center" if common_scale else "standardize")
        train_N, own_N = data.training_N(fold), data.judged_N(fold)
        with threadpool_limits(1):  # products so small that BLAS threads would only wait for each other
            x_NR = features.training(train_N)
            own_NC = np.tile(data.targets_NC[train_N], (data.image_views, 1))
            # An image weighs as much as one, whatever its views.
            shared = [strength / data.image_views for strength in strengths]
            fitted = list(fit(x_NR, own_NC, shared, given_up))
        for s, (weight_RC, bias_C, stopped) in enumerate(fitted):
            head = features.head(weight_RC, bias_C)
            heads[s].append(head)
            held_out_SMC[s, place_N[own_N]] = head.logits(data.features_ND[own_N])
            unconverged[s] += stopped
    fits = data.folds * (1 if data.multiclass else len(data.labels))
    by_fold = [fold_objectives(objective_name, held_out_MC, data) for held_out_MC in held_out_SMC]
    held_out_SMC = pooled(held_out_SMC, data)
    records = []
    for s, (strength, judged) in enumerate(
        zip(strengths, judge(held_out_SMC, rows, [SHRINKAGE] * len(strengths)), strict=True)
    ):
        (head,) = combined(heads[s], [1 / data.folds] * data.folds)
        what = f"{unconverged[s]} of {fits} regressions stopped after {STEPS} steps, before they converged"
        records.append(
            TrialRecord(
                number=-1,
                params={"C": float(strength), "features": kind},
                state="COMPLETE",
                objective=judged.metrics[f"val.{objective_name}"],
                fold_objectives=by_fold[s],
                warnings=[what] if unconverged[s] else [],
                precision=data.precision,
                arrays=head.tensors() | {"held_out_MC": held_out_SMC[s]},
                **judged_fields(judged),
            )
        )
    return tuple(records)


_Fitted = Iterator[tuple[np.ndarray, np.ndarray, int]]
"""Of each strength weight_RC, bias_C, and how many regressions used up their steps."""


def _fit(
    x_NR: np.ndarray, targets_NC: np.ndarray, strengths: Sequence[float], given_up: Callable[[], bool]
) -> _Fitted:
    """One regression a label; GivenUp."""
    shape = (len(strengths), x_NR.shape[1], targets_NC.shape[1])
    weight_SRC, bias_SC = np.zeros(shape, np.float32), np.zeros((shape[0], shape[2]), np.float32)
    stopped_S = np.zeros(len(strengths), dtype=int)
    for c, prevalence in enumerate(prevalences(targets_NC)):
        known_N = ~np.isnan(targets_NC[:, c])
        positives = np.sum(targets_NC[:, c] == 1)
        if positives in (0, known_N.sum()):
            bias_SC[:, c] = np.log(prevalence / (1 - prevalence))
            continue
        x_known_NR = x_NR if known_N.all() else x_NR[known_N]
        for s, (model, stopped) in enumerate(
            _regressions(x_known_NR, targets_NC[known_N, c] == 1, strengths, given_up)
        ):
            weight_SRC[s, :, c], bias_SC[s, c] = model.coef_[0], model.intercept_[0]
            stopped_S[s] += stopped
    yield from zip(weight_SRC, bias_SC, stopped_S.tolist(), strict=True)


def _fit_classes(
    x_NR: np.ndarray, targets_NC: np.ndarray, strengths: Sequence[float], given_up: Callable[[], bool]
) -> _Fitted:
    """As `_fit`, by one multinomial regression; a label that does not occur gets the log of its prevalence,
    and all do where only one occurs."""
    prior_C = np.log(prevalences(targets_NC))
    known_N = ~np.isnan(targets_NC).any(axis=1)
    truth_N = targets_NC[known_N].argmax(axis=1)
    shape = (x_NR.shape[1], targets_NC.shape[1])
    if len(np.unique(truth_N)) < 2:
        yield from ((np.zeros(shape, np.float32), prior_C, 0) for _ in strengths)
        return
    x_known_NR = x_NR if known_N.all() else x_NR[known_N]
    for model, stopped in _regressions(x_known_NR, truth_N, strengths, given_up):
        weight_RC, bias_C = np.zeros(shape, np.float32), prior_C.copy()
        coef_CR, intercept_C = model.coef_, model.intercept_
        if len(intercept_C) == 1:  # of two labels scikit-learn gives the difference of their logits
            halves = np.array([-0.5, 0.5])
            coef_CR, intercept_C = halves[:, None] * coef_CR, halves * intercept_C
        weight_RC[:, model.classes_], bias_C[model.classes_] = coef_CR.T, intercept_C
        yield weight_RC, bias_C, stopped


def _regressions(
    x_NR: np.ndarray, classes_N: np.ndarray, strengths: Sequence[float], given_up: Callable[[], bool]
) -> Iterator[tuple[LogisticRegression, int]]:
    """The regression fitted at each strength, from where the one before ended, and 1 where it used up its
    steps; GivenUp."""
    model = LogisticRegression(max_iter=STEPS, warm_start=True)
    for strength in strengths:
        if given_up():
            raise GivenUp
        model.set_params(C=strength)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit(x_NR, classes_N)
        yield model, int(model.n_iter_[0] >= STEPS)
