"""Test scores: every setting on one test split, with intervals, floors and what may be claimed.

This is the only code that reads test labels. A setting arrives with its thresholds fitted on validation;
nothing here is chosen on test.

Shape legend: N images, D features, C labels, E labels and then domains, P patients, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis import statistics as st
from analysis.claims import Claim, average_claim, headline, label_claims
from analysis.floors import objective_value, prevalences
from analysis.report import write_report
from analysis.settings import (
    LOGREG,
    PAPER,
    PIXELS,
    PREVALENCE,
    RANDOM,
    ZERO_SHOT,
    FinishedTrial,
    Setting,
    floors_and_trials,
)
from cohort.errors import InputError
from cohort.labels import domain_columns
from cohort.manifest import Cohort
from trainables import metrics
from trainables.metrics import PRESETS
from trainables.records import write_atomically
from vlm.encoders import Encoder

__all__ = ["AnalysisResult", "FinishedTrial", "analyze"]

RANDOM_DRAWS = 100
OPPONENTS = (PREVALENCE, ZERO_SHOT, PIXELS, LOGREG, PAPER)
"""What the best configuration is tested against; named here, before any test score exists."""
AVERAGED_PATIENTS = 2
"""Positive patients that a label needs on test to count in the averages: one has no spread to estimate."""
PAPER_METRICS = ("macro_f1", "exact_match", "lrap", "coverage_error", "ranking_loss")
SCORE_COLUMNS = (
    "setting",
    "metric",
    "label",
    "value",
    "low",
    "high",
    "positives",
    "positive_patients",
    "labels_averaged",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalysisResult:
    """What `analyze` wrote, for the command line, MLflow and the model card."""

    scores: pd.DataFrame
    """`test_scores.csv`: setting, metric, label, value, low, high, positives, positive_patients,
    labels_averaged. `label` is empty for an average and `domain:<name>` for a domain; metrics that start
    with `paper.` follow the paper's rules (within-image min-max, cut at 0.5, zero_division=0, all labels)."""
    comparisons: pd.DataFrame
    """`comparisons.csv`: family, first, second, metric, label, difference, low, high, p, p_holm."""
    claims: list[Claim]
    """One a label in the cohort's order, then one on the average: what this test split supports."""
    fall: pd.DataFrame
    """`fall.csv`: setting, metric, validation, test, fall: the objective on both splits, same labels."""
    headline: str
    """One sentence: the best configuration's test score, its interval, and the strongest floor."""
    text: str
    """Headline, table and claims, for a terminal."""
    report: Path
    """The self-contained HTML report."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """The test labels, and which of them an average may use."""

    targets_NC: np.ndarray
    patients_N: np.ndarray
    """int64 from 0, without gaps."""
    labels: tuple[str, ...]
    averaged_C: np.ndarray
    """bool: the objective's labels with at least AVERAGED_PATIENTS positive patients here."""
    prevalences_C: np.ndarray
    """float64, on training, for the Brier skill."""

    @cached_property
    def domains(self) -> dict[str, list[int]]:
        return domain_columns(self.labels)

    @property
    def patients(self) -> int:
        return int(self.patients_N.max()) + 1

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (*self.labels, *(f"domain:{name}" for name in self.domains))

    @cached_property
    def targets_NE(self) -> np.ndarray:
        if not self.domains:
            return self.targets_NC
        return np.concatenate(
            [self.targets_NC, metrics.domain_targets(self.targets_NC, self.domains)], axis=1
        )

    @cached_property
    def positive_patients_E(self) -> np.ndarray:
        return st.positive_patients(self.targets_NE, self.patients_N)

    def with_domains(self, values_NC: np.ndarray) -> np.ndarray:
        """Scores or decisions (N, E): a domain takes the highest of its labels."""
        if not self.domains:
            return values_NC
        return np.concatenate([values_NC, metrics.domain_scores(values_NC, self.domains)], axis=1)

    def distinct_patients(self, labels_C: np.ndarray) -> int:
        """Patients with a positive image of any of these labels."""
        return len(np.unique(self.patients_N[(self.targets_NC[:, labels_C] == 1).any(axis=1)]))


def analyze(
    *,
    cohort: Cohort,
    encoder: Encoder,
    features_ND: np.ndarray,
    pixel_features_ND: np.ndarray,
    trials: Sequence[FinishedTrial],
    trials_table: pd.DataFrame,
    objective: Literal["macro_ap", "macro_auroc", "macro_f1"],
    objective_labels_C: np.ndarray,
    folder: Path,
    bootstrap: int = 10_000,
    seed: int = 0,
    title: str = "",
    metadata: Mapping[str, str] | None = None,
) -> AnalysisResult:
    """Score the floors, zero-shot and the chosen trials on the test split and write what may be claimed.

    Writes `test_scores.csv`, `comparisons.csv`, `fall.csv`, `claims.txt`, `figures/*.png` and `report.html`
    into `folder`, each atomically, replacing an earlier analysis.

    Args:
        cohort: the cohort; its three splits must all hold images.
        encoder: the study's encoder: its text tower gives zero-shot, its fingerprint goes into the report.
        features_ND: float32, the encoder's features of all present rows, in manifest order.
        pixel_features_ND: float32, the `pixels` encoder's features of the same rows.
        trials: `paper` and the best on validation (`best-1`, ...), in any order; never chosen on test.
        trials_table: `trials.parquet`, one row a configuration, for the search history.
        objective: the study's objective; C of the logistic regressions is chosen by it on validation.
        objective_labels_C: bool (C,), the labels it averages; the averages on test use the same labels.
        folder: `RUN/analysis`.
        bootstrap: patient-level resamples behind each interval and draws of each paired test.
        seed: of the resamples and the draws.
        title: the study's name.
        metadata: extra lines for the report's provenance table, in order (library versions, revision).

    Raises:
        InputError: a split is empty, or no objective label has enough positive patients on test.
    """
    test_N = cohort.indices("test")
    split = open_test_labels(cohort, test_N, objective_labels_C)
    with tqdm(desc="analysis", unit="step", disable=None, leave=False) as bar:

        def step(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        settings, no_zero_shot = floors_and_trials(
            cohort,
            encoder,
            features_ND,
            pixel_features_ND,
            trials,
            objective,
            objective_labels_C,
            seed,
            step,
        )
        weights_PB = st.patient_weights(split.patients, bootstrap, seed)
        frames, replicates = [], {}
        for setting in settings:
            step(f"intervals: {setting.name}")
            rows, replicates[setting.name] = score_setting(split, setting, weights_PB, seed)
            frames.append(rows)
        scores = pd.concat(frames, ignore_index=True)

        best = "best-1" if any(setting.name == "best-1" for setting in settings) else settings[-1].name
        step("paired tests")
        comparisons = compare(split, settings, best, replicates, draws=bootstrap, seed=seed)

    fall = validation_to_test(cohort, split, settings, trials, objective)
    claims = label_claims(scores, comparisons, cohort.labels, best)
    claims.append(average_claim(scores, comparisons, best))
    sentence = headline(scores, comparisons, best, images=len(test_N), patients=split.patients)
    text = summary(sentence, scores, settings, fall, claims)

    folder = Path(folder)
    for name, table in (("test_scores", scores), ("comparisons", comparisons), ("fall", fall)):
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g").encode())
    write_atomically(folder / "claims.txt", "".join(f"{claim.sentence}\n" for claim in claims).encode())
    report = write_report(
        folder,
        title=title or cohort.folder.name,
        headline=sentence,
        scores=scores,
        comparisons=comparisons,
        fall=fall,
        claims=claims,
        settings=settings,
        trials=trials,
        trials_table=trials_table,
        objective=objective,
        averaged_C=split.averaged_C,
        best=best,
        cohort=cohort,
        encoder=encoder,
        no_zero_shot=no_zero_shot,
        bootstrap=bootstrap,
        metadata=metadata or {},
    )
    return AnalysisResult(
        scores=scores,
        comparisons=comparisons,
        claims=claims,
        fall=fall,
        headline=sentence,
        text=text,
        report=report,
    )


def open_test_labels(cohort: Cohort, test_N: np.ndarray, objective_labels_C: np.ndarray) -> HeldOut:
    """Open the test labels.

    Raises:
        InputError: none of the objective's labels has AVERAGED_PATIENTS positive patients and a negative.
    """
    targets_NC = cohort.targets_NC(test_N).astype(np.float64)
    patients_N = np.unique(cohort.patients_N(test_N), return_inverse=True)[1]
    enough_C = st.positive_patients(targets_NC, patients_N) >= AVERAGED_PATIENTS
    averaged_C = np.asarray(objective_labels_C, dtype=bool) & enough_C & (targets_NC == 0).any(axis=0)
    if not averaged_C.any():
        raise InputError(
            f"{cohort.folder}: none of the study's labels has {AVERAGED_PATIENTS} positive patients on test, "
            "so there is nothing to score; give the test split more patients"
        )
    return HeldOut(
        targets_NC=targets_NC,
        patients_N=patients_N,
        labels=cohort.labels,
        averaged_C=averaged_C,
        prevalences_C=prevalences(cohort.targets_NC(cohort.indices("train"))),
    )


def score_setting(
    split: HeldOut, setting: Setting, weights_PB: np.ndarray, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """All scores of one setting as rows of `test_scores.csv`, and its replicates metric -> (E, B).

    Values are `trainables.metrics.evaluate`'s. `random` gets the mean over RANDOM_DRAWS throws and, in place
    of an interval, the range in which 95 % of them lie.
    """
    scored = _evaluated(split, setting)
    if setting.name == RANDOM:
        return _random_rows(split, setting, scored, seed), {}
    replicates_EB, images_B, pooled_B, paper_CB = _replicates(split, setting, weights_PB)
    everyone_C = np.ones(len(split.labels), dtype=bool)
    rows = []
    for prefix, score in scored:
        name, low, high = score.metric, np.nan, np.nan
        if score.label:
            e = split.names.index(score.label)
            patients = int(split.positive_patients_E[e])
            if np.isfinite(score.value):
                low, high = st.label_interval(
                    score.value, replicates_EB[name][e], patients, BOUNDS.get(name, UNIT)
                )
        elif prefix and name == "macro_f1":
            patients = split.distinct_patients(everyone_C)
            # A label without positives scores 0 whatever is resampled; the others carry the spread.
            there_C = split.positive_patients_E[: len(everyone_C)] > 0
            share = there_C.mean()
            values_C = metrics.f1(metrics.confusion(split.targets_NC, _paper_decisions(setting)))
            interval = st.average_interval(
                values_C[there_C], paper_CB[there_C], split.positive_patients_E[: len(there_C)][there_C]
            )
            low, high = share * interval[0], share * interval[1]
        elif name.startswith("macro_"):
            patients = split.distinct_patients(split.averaged_C)
            metric = MACRO_OF.get(name, name.removeprefix("macro_"))
            averaged = np.flatnonzero(split.averaged_C)
            values_C = np.array([_value(scored, metric, split.labels[c]) for c in averaged])
            low, high = st.average_interval(
                values_C,
                replicates_EB[metric][averaged],
                split.positive_patients_E[averaged],
                BOUNDS.get(metric, UNIT),
            )
        else:
            patients = split.distinct_patients(everyone_C)
            per_image = name in PER_IMAGE
            rests_on = split.patients if per_image else patients
            if rests_on >= st.MIN_POSITIVE_PATIENTS:
                values_B = images_B[prefix + name] if per_image else pooled_B[name]
                bounds = (0.0, float(len(split.labels))) if name == "coverage_error" else UNIT
                low, high = st.interval(
                    score.value, st.spread(values_B, rests_on), rests_on - 1, rests_on, bounds
                )
        rows.append(_row(setting, prefix, score, low, high, patients))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS), replicates_EB


UNIT = (0.0, 1.0)
BOUNDS = {"mcc": (-1.0, 1.0), "brier_skill": None}
MACRO_OF = {"macro_ap": "average_precision"}
PER_IMAGE = ("exact_match", "lrap", "coverage_error", "ranking_loss")
# What scikit-learn's averages count for an image without a positive label, where ours leave it out.
PAPER_FILL = {"exact_match": np.nan, "lrap": 1.0, "coverage_error": 0.0, "ranking_loss": 0.0}


def _row(
    setting: Setting, prefix: str, score: metrics.Score, low: float, high: float, patients: int
) -> tuple:
    return (
        setting.name,
        prefix + score.metric,
        score.label,
        score.value,
        low,
        high,
        score.positives,
        patients,
        score.labels_averaged,
    )


def _paper_decisions(setting: Setting) -> np.ndarray:
    return PRESETS["paper"].decisions(PRESETS["paper"].scores(setting.test_scores_NC))


def _evaluated(split: HeldOut, setting: Setting) -> list[tuple[str, metrics.Score]]:
    """(prefix, score) of every row: the project's rules, then the paper's."""
    ours = metrics.evaluate(
        split.targets_NC,
        setting.test_unit_NC,
        setting.test_decisions_NC,
        split.labels,
        averaged_C=split.averaged_C,
        prevalences_C=split.prevalences_C if setting.kind == "logits" else None,
        domains=split.domains,
    )
    preset = PRESETS["paper"]
    papers = metrics.evaluate(
        split.targets_NC,
        preset.scores(setting.test_scores_NC),
        _paper_decisions(setting),
        split.labels,
        sklearn_undefined=preset.sklearn_undefined,
    )
    papers = [score for score in papers if score.metric in PAPER_METRICS and not score.label]
    return [("", score) for score in ours] + [("paper.", score) for score in papers]


def _random_rows(
    split: HeldOut, setting: Setting, scored: Sequence[tuple[str, metrics.Score]], seed: int
) -> pd.DataFrame:
    rng = np.random.default_rng([seed, RANDOM_DRAWS])
    throws = []
    for _ in range(RANDOM_DRAWS):
        thrown = Setting(
            name=setting.name,
            val_scores_NC=setting.val_scores_NC,
            test_scores_NC=rng.normal(size=setting.test_scores_NC.shape),
            kind=setting.kind,
            thresholds_C=setting.thresholds_C,
            strategy=setting.strategy,
            note=setting.note,
        )
        throws.append([score.value for _, score in _evaluated(split, thrown)])
    throws_RS = np.array(throws)
    undefined_S = np.isnan(throws_RS).all(axis=0)
    throws_RS[:, undefined_S] = 0
    low_S, high_S = np.percentile(throws_RS, [2.5, 97.5], axis=0)
    frame = pd.DataFrame(
        [_row(setting, prefix, score, 0, 0, 0) for prefix, score in scored], columns=SCORE_COLUMNS
    )
    for column, values_S in (("value", throws_RS.mean(axis=0)), ("low", low_S), ("high", high_S)):
        frame[column] = np.where(undefined_S, np.nan, values_S)
    everyone_C = np.ones(len(split.labels), dtype=bool)
    of_name = dict(zip(split.names, split.positive_patients_E, strict=True))
    averaged = split.distinct_patients(split.averaged_C)
    frame["positive_patients"] = [
        of_name[label]
        if label
        else averaged
        if metric.startswith("macro_")
        else split.distinct_patients(everyone_C)
        for label, metric in zip(frame["label"], frame["metric"], strict=True)
    ]
    return frame


def _replicates(
    split: HeldOut, setting: Setting, weights_PB: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Under each resample: metric -> (E, B); per-image metric -> (B,); micro metric -> (B,); and the paper's
    F1 of each label (C, B)."""
    rows_N, targets_NE = split.patients_N, split.targets_NE
    unit_NE = split.with_domains(setting.test_unit_NC)
    decisions_NE = split.with_domains(setting.test_decisions_NC)
    pairs = [
        st.weighted_ranking(targets_NE[:, e], unit_NE[:, e], rows_N, weights_PB)
        for e in range(targets_NE.shape[1])
    ]
    replicates = {
        name: np.stack(column)
        for name, column in zip(st.RANKING_METRICS, zip(*pairs, strict=True), strict=True)
    }
    counts = st.weighted_confusion(targets_NE, decisions_NE, rows_N, weights_PB)
    replicates |= st.decision_metrics(*counts)
    labels = len(split.labels)
    if setting.kind == "logits":
        brier_CB = st.weighted_brier(split.targets_NC, setting.test_unit_NC, rows_N, weights_PB)
        reference_C = metrics.brier(
            split.targets_NC, np.broadcast_to(split.prevalences_C, split.targets_NC.shape)
        )
        replicates["brier"] = brier_CB
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates["brier_skill"] = 1 - brier_CB / reference_C[:, None]
    pooled = st.decision_metrics(*(count[:labels].sum(axis=0) for count in counts))
    micro = {f"micro_{name}": pooled[name] for name in ("f1", "precision", "recall")}

    ranked = setting.test_unit_NC
    paper_scores, paper_decisions = PRESETS["paper"].scores(setting.test_scores_NC), _paper_decisions(setting)
    columns = {"exact_match": metrics.exact_match(split.targets_NC, setting.test_decisions_NC)}
    papers = {"exact_match": metrics.exact_match(split.targets_NC, paper_decisions)}
    for name in ("lrap", "coverage_error", "ranking_loss"):
        measure = getattr(metrics, name)
        columns[name], papers[name] = (
            measure(split.targets_NC, ranked),
            measure(split.targets_NC, paper_scores),
        )
    for name, values_N in papers.items():
        columns[f"paper.{name}"] = np.where(np.isnan(values_N), PAPER_FILL[name], values_N)
    means_MB = st.weighted_mean(np.stack(list(columns.values()), axis=1), rows_N, weights_PB)
    per_image = dict(zip(columns, means_MB, strict=True))

    paper_counts = st.weighted_confusion(split.targets_NC, paper_decisions, rows_N, weights_PB)
    return replicates, per_image, micro, np.nan_to_num(st.decision_metrics(*paper_counts)["f1"])


def compare(
    split: HeldOut,
    settings: Sequence[Setting],
    best: str,
    replicates: Mapping[str, Mapping[str, np.ndarray]],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The best configuration against OPPONENTS: paired patient-level permutation tests, Holm within a family.

    Two families, fixed before any score is seen: `average`, the macro average precision against each
    opponent; `labels`, the AUROC of each label with at least MIN_POSITIVE_PATIENTS positive patients against
    each opponent. A constant opponent ranks nothing, so there the null is that the scores carry no
    information, and the model is tested against its own ranking reversed.
    """
    by_name = {setting.name: setting for setting in settings}
    first = by_name[best]
    known = list(range(len(split.labels)))
    tested = [c for c in known if split.positive_patients_E[c] >= st.MIN_POSITIVE_PATIENTS]
    averaged = np.flatnonzero(split.averaged_C)
    values = {name: _ranking_values(split, by_name[name]) for name in (best, *OPPONENTS) if name in by_name}
    rows = []
    for name in OPPONENTS:
        if name not in by_name or name == best:
            continue
        second = by_name[name]
        other_NC = -first.test_scores_NC if second.constant else second.test_scores_NC
        null = st.paired_permutation(
            split.targets_NC, first.test_scores_NC, other_NC, split.patients_N, draws=draws, seed=seed
        )
        observed_C, null_CB = null["average_precision"]
        p = st.permutation_p(float(observed_C[averaged].mean()), null_CB[averaged].mean(axis=0))
        difference_C = values[best]["average_precision"] - values[name]["average_precision"]
        deviation_CB = replicates[best]["average_precision"] - replicates[name]["average_precision"]
        low, high = st.average_interval(
            difference_C[averaged],
            deviation_CB[averaged],
            split.positive_patients_E[averaged],
            bounds=None,
        )
        rows.append(("average", best, name, "macro_ap", "", difference_C[averaged].mean(), low, high, p))
        observed_C, null_CB = null["auroc"]
        difference_C = values[best]["auroc"] - values[name]["auroc"]
        deviation_CB = replicates[best]["auroc"] - replicates[name]["auroc"]
        for c in tested:
            patients = int(split.positive_patients_E[c])
            low, high = st.label_interval(float(difference_C[c]), deviation_CB[c], patients, bounds=None)
            p = st.permutation_p(float(observed_C[c]), null_CB[c])
            rows.append(("labels", best, name, "auroc", split.labels[c], difference_C[c], low, high, p))
    columns = ["family", "first", "second", "metric", "label", "difference", "low", "high", "p"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["p_holm"] = np.nan
    for _, members in frame.groupby("family"):
        frame.loc[members.index, "p_holm"] = st.holm(members["p"].to_numpy())
    return frame


def _ranking_values(split: HeldOut, setting: Setting) -> dict[str, np.ndarray]:
    return {
        "auroc": metrics.auroc(split.targets_NC, setting.test_unit_NC),
        "average_precision": metrics.average_precision(split.targets_NC, setting.test_unit_NC),
    }


def validation_to_test(
    cohort: Cohort,
    split: HeldOut,
    settings: Sequence[Setting],
    trials: Sequence[FinishedTrial],
    objective: str,
) -> pd.DataFrame:
    """The objective on validation and on test over the same labels, and the fall between them.

    macro_f1 is that of the decisions on test, against its cross-fitted value on validation.
    """
    val_N = cohort.indices("val")
    val_targets_NC, val_patients_N = cohort.targets_NC(val_N), cohort.patients_N(val_N)
    names = {trial.name for trial in trials} | {LOGREG, PIXELS, ZERO_SHOT}
    rows = []
    for setting in settings:
        if setting.name not in names:
            continue
        arguments = (objective, val_targets_NC, setting.val_scores_NC, val_patients_N, split.averaged_C)
        validation = objective_value(*arguments)
        if objective == "macro_f1":
            counts = metrics.confusion(split.targets_NC, setting.test_decisions_NC)
            test = float(metrics.macro(metrics.f1(counts), split.averaged_C).value)
        else:
            test = objective_value(
                objective, split.targets_NC, setting.test_scores_NC, split.patients_N, split.averaged_C
            )
        rows.append((setting.name, objective, validation, test, validation - test))
    return pd.DataFrame(rows, columns=["setting", "metric", "validation", "test", "fall"])


def _value(scored: Sequence[tuple[str, metrics.Score]], metric: str, label: str) -> float:
    return next(s.value for prefix, s in scored if not prefix and s.metric == metric and s.label == label)


def summary(
    sentence: str,
    scores: pd.DataFrame,
    settings: Sequence[Setting],
    fall: pd.DataFrame,
    claims: Sequence[Claim],
) -> str:
    """Headline, the table of all settings, the fall from validation to test, and the claims, as text."""
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    columns = (
        ("macro_auroc", "macro AUROC", True),
        ("macro_ap", "macro AP", True),
        ("macro_f1", "macro F1", True),
        ("exact_match", "exact", False),
        ("lrap", "LRAP", False),
        ("coverage_error", "coverage", False),
    )
    width = max(len(setting.name) for setting in settings)
    lines = [
        sentence,
        "",
        " " * width + "".join(f"{title:>{22 if ranged else 10}}" for _, title, ranged in columns),
    ]
    for setting in settings:
        cells = []
        for metric, _, ranged in columns:
            row = averages.loc[(setting.name, metric)]
            text = f"{row['value']:.3f}"
            if ranged and np.isfinite(row["low"]):
                text += f" ({row['low']:.3f}-{row['high']:.3f})"
            cells.append(f"{text:>{22 if ranged else 10}}")
        lines.append(f"{setting.name:<{width}}" + "".join(cells))
    count = int(averages.loc[(settings[-1].name, "macro_auroc")]["labels_averaged"])
    lines += [
        f"averages over {count} labels, the same in every row; in brackets 95 % intervals over patients",
        "",
        f"{fall['metric'].iloc[0]} from validation to test: "
        + "; ".join(
            f"{row.setting} {row.validation:.3f} -> {row.test:.3f} ({-row.fall:+.3f})"
            for row in fall.itertuples()
        ),
        "",
        *(claim.sentence for claim in claims),
    ]
    return "\n".join(lines)
