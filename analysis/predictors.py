"""The rows of every table: what knows nothing, floors, zero-shot and chosen trials, with their scores.

Every row is fitted on training and validation alone and arrives at the test split finished.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scoring.judging import SHRINKAGE, Scale, judge, objective
from scoring.metrics import prevalences
from trainables.logistic import LogisticGrid, train_logistic
from trainables.records import TrialRecord
from trainables.text_informed import text_informed
from trainables.trial_data import ProbeData
from vlm.encoders import Encoder, load_encoder
from vlm.encoders.pixels import NAMES, SIDES, name_of
from vlm.feature_kinds import DEEP, PROJECTED, FeatureKind, base_kind
from vlm.linear_head import LinearHead
from vlm.predictor import DecisionRule, Origin, Predictor
from vlm.prompts import Wording, text_prototypes

RANDOM, PREVALENCE, ALL_POSITIVE = "random", "prevalence", "all-positive"
METADATA = "metadata"
PIXELS, ZERO_SHOT, PROMPTED = "pixels", "zero-shot", "zero-shot-prompts"
LOGREG, LOGREG_DEEP, TEXT_INFORMED = "logreg", "logreg-deep", "text-informed"
FLOORS = (
    RANDOM,
    PREVALENCE,
    ALL_POSITIVE,
    ZERO_SHOT,
    PROMPTED,
    METADATA,
    PIXELS,
    TEXT_INFORMED,
    LOGREG,
    LOGREG_DEEP,
)
"""Rows that no trial stands behind."""
PAPER, BEST_TRIAL = "paper", "best-1"
"""The published configuration, and the best on validation."""
STUDY, SPLIT = "study", "split-best"
"""The study's answer made of several heads; and what would have been chosen, and trained, by the given
split."""
PUBLICATION = "Sadman et al. 2025, arXiv 2506.14136"
PUBLISHED = "the published configuration"

Features = Callable[[Encoder, str], np.ndarray]
"""Features of an encoder in a precision: float32, all present rows of the cohort in manifest order."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a predictor, or each of its folds, says of development images that it was not trained on."""

    rows_N: np.ndarray
    """int64, the images' places in the cohort."""
    scores_NC: np.ndarray
    """On the scale of the predictor's own scores."""

    def of(self, rows_N: np.ndarray) -> np.ndarray:
        """float64 (N, C): the scores of these images of the cohort, NaN where it has none."""
        scores_NC = np.full((len(rows_N), self.scores_NC.shape[1]), np.nan)
        place = {row: n for n, row in enumerate(self.rows_N.tolist())}
        known = [(n, place[row]) for n, row in enumerate(rows_N.tolist()) if row in place]
        if known:
            there, here = np.array(known).T
            scores_NC[there] = self.scores_NC[here]
        return scores_NC


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained predictor on its way into the tables."""

    predictor: Predictor
    held_out: HeldOut | None
    """None: it was trained on none of the images on which the study judges, so that its own scores are
    honest there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One row of the tables: a predictor with its scores on validation and on test."""

    name: str
    note: str
    """What it knows, for the reader of the table."""
    predictor: Predictor | None
    """None for `random`, which no head makes, and for `metadata`, which looks at no image."""
    rule: DecisionRule
    ranks_only: bool
    constant: bool
    """Every image gets the same scores, so that no image can be told from another."""
    val_scores_NC: np.ndarray
    """float64: of the images on which the study judges, by what was not trained on them; NaN in the rows of
    which there is no such score."""
    test_scores_NC: np.ndarray
    """float64, as the predictor gives them."""
    objective: float = float("nan")
    """The study's objective on validation, of what was chosen by it."""

    @property
    def test_unit_NC(self) -> np.ndarray:
        """The test scores on [0, 1], order kept: probabilities of logits."""
        return self.rule.probabilities(self.test_scores_NC)

    @property
    def test_ranked_NC(self) -> np.ndarray:
        """What ranks the test images for a label: its score, of exclusive labels its probability, as
        `scoring.judging.objective` has it."""
        return self.test_unit_NC if self.rule.exclusive else self.test_scores_NC

    @property
    def test_decisions_NC(self) -> np.ndarray:
        """bool (N, C)."""
        return self.rule.decide(self.test_scores_NC)

    @property
    def shrinkage(self) -> float:
        """Strength of its threshold strategy `shrunk`."""
        params = self.predictor.origin.params if self.predictor else {}
        return params.get("threshold_shrinkage", SHRINKAGE)


def scored(candidate: Candidate, features: Features, val_N: np.ndarray, test_N: np.ndarray) -> Scored:
    """A predictor on the judged and the test images of its cohort."""
    predictor, held_out = candidate.predictor, candidate.held_out
    features_ND = features(predictor.encoder, predictor.precision)
    return Scored(
        name=predictor.name,
        note=predictor.origin.note,
        predictor=predictor,
        rule=predictor.rule,
        ranks_only=predictor.ranks_only,
        constant=predictor.constant,
        val_scores_NC=held_out.of(val_N) if held_out else predictor.scores(features_ND[val_N]),
        test_scores_NC=predictor.scores(features_ND[test_N]),
        objective=predictor.origin.objective,
    )


def random_row(labels: int, val: int, test: int, seed: int, *, exclusive: bool = False) -> Scored:
    """Scores that are thrown: no head makes them."""
    rng = np.random.default_rng(seed)
    return Scored(
        name=RANDOM,
        note=f"{'one label thrown' if exclusive else 'a coin a label'}; mean and 95 % range of luck over 100 "
        "throws",
        predictor=None,
        rule=DecisionRule.fixed(labels, exclusive),
        ranks_only=True,
        constant=False,
        val_scores_NC=rng.normal(size=(val, labels)),
        test_scores_NC=rng.normal(size=(test, labels)),
    )


def constant_floors(data: ProbeData, encoder: Encoder) -> list[Predictor]:
    """What says the same of every image: each label's prevalence in training, and every label, which is no
    answer where labels are exclusive. There the first decides for the most common label."""
    prior_C = prevalences(data.targets_NC[data.training_N()])
    rows = (
        (
            PREVALENCE,
            np.log(prior_C if data.exclusive else prior_C / (1 - prior_C)),
            False,
            "how common each label is in training, the same for every image",
        ),
        (ALL_POSITIVE, np.zeros(len(prior_C)), True, "every label for every image"),
    )
    return [
        Predictor(
            name=name,
            labels=data.labels,
            encoder=encoder,
            heads=(LinearHead.plain(np.zeros((1, len(prior_C))), bias_C),),
            ranks_only=ranks_only,
            rule=DecisionRule.fixed(len(prior_C), data.exclusive),
            precision=data.precision,
            origin=Origin(note=note),
        )
        for name, bias_C, ranks_only, note in rows
        if not (data.exclusive and name == ALL_POSITIVE)
    ]


def zero_shot(data: ProbeData, encoder: Encoder, wording: Wording, objective_name: str) -> list[Predictor]:
    """The bare label names, and the better of two styles of prompts by the study's objective on validation.

    name      raw image feature . text feature of the bare label (arXiv 2506.14136).
    ensemble  logit scale x cosine with the mean direction of several sentences (Radford et al. 2021).
    pair      logit scale x (cosine with the finding - cosine with its absence): the logit of the softmax over
              the two (Tiu et al. 2022).

    Raises:
        InputError: the encoder has no text tower in the space of its features.
    """
    styles = {
        "name": (ZERO_SHOT, "image · text product with the bare label name"),
        "ensemble": (PROMPTED, "mean of several prompts a label, chosen on validation"),
        "pair": (PROMPTED, "finding against its absence, chosen on validation"),
    }
    judged_ND, rows = data.features_ND[data.judged_N()], data.judged()
    predictors, values = {}, {}
    for style, (name, note) in styles.items():
        head = _prototype_head(encoder, data.labels, style, wording)
        scores_1NC = head.logits(judged_ND).astype(np.float64)[None]
        scale = Scale.standardising(scores_1NC)
        (judged,) = judge(scores_1NC, rows, [SHRINKAGE], scale)
        values[style] = objective(objective_name, scores_1NC, rows, [SHRINKAGE], scale)[0]
        predictors[style] = Predictor(
            name=name,
            labels=data.labels,
            encoder=encoder,
            heads=(head,),
            ranks_only=True,
            rule=DecisionRule.fitted(
                judged.strategy, judged.thresholds[judged.strategy], judged.few_C, scale, judged.exclusive
            ),
            precision=data.precision,
            origin=Origin(note=note, params={"prompts": style}),
        )
    prompted = max(("ensemble", "pair"), key=values.get)
    return [predictors["name"], predictors[prompted]]


def _prototype_head(encoder: Encoder, labels: Sequence[str], style: str, wording: Wording) -> LinearHead:
    """Zero-shot as a linear head: the text prototypes are its weights."""
    first = encoder.kinds[PROJECTED].first
    present_CD, absent_CD = text_prototypes(encoder, labels, style, wording)
    if style == "name":
        return LinearHead.plain(present_CD.T, first=first)
    direction_CD = present_CD if absent_CD is None else present_CD - absent_CD
    return LinearHead.plain(encoder.logit_scale * direction_CD.T, l2=True, first=first)


def text_floor(data: ProbeData, encoder: Encoder, objective_name: str) -> Candidate:
    """Text prototypes and the means of labelled images in one closed form, its strength the best on
    validation; `data` with `text_CD`."""
    record = max(text_informed(data, objective_name), key=lambda one: one.objective)
    scale = Scale.standardising(record.held_out_MC)
    (judged,) = judge(record.held_out_MC[None], data.judged(), [SHRINKAGE], scale)
    strength = record.params["strength"]
    predictor = Predictor(
        name=TEXT_INFORMED,
        labels=data.labels,
        encoder=encoder,
        heads=(record.head,),
        ranks_only=True,
        rule=DecisionRule.fitted(
            judged.strategy, judged.thresholds[judged.strategy], judged.few_C, scale, judged.exclusive
        ),
        precision=data.precision,
        origin=Origin(
            note=f"text and class means in closed form, strength {strength:g}, chosen on validation",
            params=record.params,
            objective=record.objective,
        ),
    )
    return Candidate(predictor, HeldOut(data.rows_N[data.judged_N()], record.held_out_MC))


def pixel_floor(data: ProbeData, channels: int, features: Features, objective_name: str) -> Candidate:
    """A logistic regression on raw pixels, its size and C the best on validation by the study's objective.

    Args:
        channels: of the cohort's images, 1 gray or 3 colour.
        features: of any encoder on this cohort.
    """
    best, best_encoder = None, None
    for side in SIDES:  # of equally good ones the smaller is taken
        encoder = load_encoder(name_of(side, channels))
        features_ND = features(encoder, "fp32")[data.rows_N]
        its_data = replace(
            data, features_ND=features_ND, precision="fp32", kinds=encoder.kinds, views=1, text_CD=None
        )
        record = train_logistic(its_data, objective_name=objective_name, common_scale=True).chosen
        if best is None or record.objective > best.objective:
            best, best_encoder = record, encoder
    side, channels = NAMES[best_encoder.name]
    colour = "colour" if channels == 3 else "gray"
    note = f"logistic regression on {side} x {side} {colour} pixels, C = {best.params['C']:g}"
    note += ", size and C chosen on validation"
    return regression(best, PIXELS, data, best_encoder, note)


def logistic_floors(
    data: ProbeData, encoder: Encoder, objective_name: str, fitted: Mapping[str, LogisticGrid]
) -> list[Candidate]:
    """The plain method: a logistic regression on the frozen features, its C the best on validation; on the
    base features, and on deep ones where the encoder has them.

    Args:
        fitted: row -> regressions that need not be fitted again.
    """
    rows = []
    for name, kind in regressed_kinds(data.kinds).items():
        grid = fitted.get(name) or train_logistic(data, objective_name=objective_name, kind=kind)
        record = grid.chosen
        note = f"logistic regression on the frozen {kind} features, C = {record.params['C']:g}, chosen on "
        rows.append(regression(record, name, data, encoder, f"{note}validation"))
    return rows


def regressed_kinds(kinds: Mapping[str, FeatureKind]) -> dict[str, str]:
    """Row of a plain logistic regression -> the kind of features that it is fitted on."""
    base = base_kind(kinds).name
    return {LOGREG: base} | ({LOGREG_DEEP: DEEP} if DEEP in kinds and base != DEEP else {})


def regression(record: TrialRecord, name: str, data: ProbeData, encoder: Encoder, note: str) -> Candidate:
    """A fitted regression as the row `name`."""
    predictor = record.predictor(name, data.labels, encoder, note=note)
    if record.held_out_MC is None:
        return Candidate(predictor, None)
    return Candidate(predictor, HeldOut(data.rows_N[data.judged_N()], record.held_out_MC))
