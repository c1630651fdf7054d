"""Test scores: every setting on one test split, with intervals, floors and what may be claimed.

This is the only code that reads test labels. A setting arrives with its thresholds fitted on validation;
nothing here is chosen on test.

Shape legend: N images, D features, C labels, E labels and then domains, P patients, B resamples.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis import statistics as st
from analysis.claims import Claim, average_claim, headline, label_claims, ranged, signed
from analysis.floors import objective_value
from analysis.held_out import HeldOut, open_test_labels
from analysis.report import write_report
from analysis.settings import (
    ALL_POSITIVE,
    LOGREG,
    PAPER,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    RANDOM,
    ZERO_SHOT,
    FinishedTrial,
    Setting,
    floors_and_trials,
)
from cohort.errors import InputError
from cohort.files import write_atomically
from cohort.manifest import Cohort
from trainables import metrics
from trainables.metrics import PRESETS
from vlm.encoders import Encoder

__all__ = ["AnalysisResult", "FinishedTrial", "analyze", "read_tables"]

RANDOM_DRAWS = 100
OPPONENTS = (PREVALENCE, ZERO_SHOT, PROMPTED, PIXELS, LOGREG, PAPER)
"""What the best configuration is tested against, with the study beside it where there is one; fixed before
any test score exists."""
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


def analyze(
    *,
    cohort: Cohort,
    encoder: Encoder,
    features_ND: np.ndarray,
    pixel_features_ND: np.ndarray,
    trials: Sequence[FinishedTrial],
    beside: FinishedTrial | None = None,
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

    Writes `test_scores.csv`, `comparisons.csv`, `fall.csv`, `settings.csv`, `claims.txt`,
    `test_predictions.parquet` (the trials' probabilities and decisions), `figures/*.png` and `report.html`
    into `folder`, each atomically, replacing an earlier analysis.

    Args:
        cohort: the cohort; its three splits must all hold images.
        encoder: the study's encoder: its text tower gives zero-shot, its fingerprint goes into the report.
        features_ND: float32, the encoder's features of all present rows, in manifest order.
        pixel_features_ND: float32, the `pixels` encoder's features of the same rows.
        trials: `paper` and the best on validation (`best-1`, ...), in any order; never chosen on test.
        beside: the best of another study on the same cohort, under that study's name: one more opponent.
        trials_table: `trials.parquet`, one row a configuration, for the search history.
        objective: the study's objective; C of the logistic regressions is chosen by it on validation.
        objective_labels_C: bool (C,), the labels it averages; the averages on test use the same labels.
        folder: `RUN/analysis`.
        bootstrap: patient-level resamples behind each interval and draws of each paired test.
        seed: of the resamples and the draws.
        title: the study's name.
        metadata: extra lines for the report's provenance table, in order (library versions, revision).

    Raises:
        InputError: a split is empty, no objective label has enough positive patients on test, or the study
            beside bears the name of another row.
    """
    test_N = cohort.indices("test")
    scored = [*trials, beside] if beside else list(trials)
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
            scored,
            objective,
            objective_labels_C,
            seed,
            step,
        )
        if beside and sum(setting.name == beside.name for setting in settings) > 1:
            raise InputError(
                f"analysis.beside: a study named {beside.name} cannot stand beside the row of that name; "
                "run it under another name"
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
        opponents = (*OPPONENTS, beside.name) if beside else OPPONENTS
        comparisons = compare(split, settings, best, opponents, replicates, draws=bootstrap, seed=seed)

    fall = validation_to_test(cohort, split, settings, scored, objective)
    claims = label_claims(scores, comparisons, cohort.labels, best)
    claims.append(average_claim(scores, comparisons, best))
    sentence = headline(scores, comparisons, best, images=len(test_N), patients=split.patients)
    text = summary(sentence, scores, settings, fall, claims, best)

    folder = Path(folder)
    predictions = predictions_on_test(cohort, test_N, settings, scored)
    write_atomically(folder / "test_predictions.parquet", predictions.to_parquet(index=False))
    # settings.csv comes last: it says that the tables before it are whole, and of which trials they speak.
    tables = {"test_scores": scores, "comparisons": comparisons, "fall": fall}
    for name, table in (tables | {"settings": describe(settings, scored)}).items():
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


def read_tables(folder: Path, trial: FinishedTrial | None = None) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """`test_scores.csv` and `comparisons.csv` of an analysis folder.

    None where there is no analysis, and where it scored another configuration under the name of `trial`, as
    after a study that has grown since.
    """
    folder = Path(folder)
    if not (folder / "settings.csv").exists():
        return None
    if trial is not None:
        numbers = pd.read_csv(folder / "settings.csv").set_index("setting")["trial"]
        if numbers.get(trial.name) != trial.number:
            return None
    scores, comparisons = (
        pd.read_csv(folder / f"{name}.csv").fillna({"label": ""}) for name in ("test_scores", "comparisons")
    )
    return scores, comparisons


def score_setting(
    split: HeldOut, setting: Setting, weights_PB: np.ndarray, seed: int = 0
) -> tuple[pd.DataFrame, Replicates | None]:
    """All scores of one setting as rows of `test_scores.csv`, and the replicates behind their intervals.

    Values are `trainables.metrics.evaluate`'s. `random` gets the mean over RANDOM_DRAWS throws and, in place
    of an interval, the range in which 95 % of them lie; it has no replicates.
    """
    scored = _evaluated(split, setting)
    if setting.name == RANDOM:
        values, lows, highs = _luck(split, setting, seed)
        replicates = None
    else:
        replicates = _replicates(split, setting, weights_PB)
        values = [score.value for score in scored]
        lows, highs = zip(
            *(_interval(split, setting, score, scored, replicates) for score in scored), strict=True
        )
    rows = [
        (
            setting.name,
            score.metric,
            score.label,
            value,
            low,
            high,
            score.positives,
            split.patients_behind(score.metric, score.label),
            score.labels_averaged,
        )
        for score, value, low, high in zip(scored, values, lows, highs, strict=True)
    ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS), replicates


def _evaluated(split: HeldOut, setting: Setting) -> list[metrics.Score]:
    """Every row's value: by the project's rules, then the averages by the paper's, named `paper.<metric>`."""
    ours = metrics.evaluate(
        split.targets_NC,
        setting.test_unit_NC,
        setting.test_decisions_NC,
        split.labels,
        averaged_C=split.averaged_C,
        prevalences_C=split.prevalences_C if setting.kind == "logits" else None,
        domains=split.domains,
    )
    scores_NC, decisions_NC = _by_the_paper(setting)
    papers = metrics.evaluate(
        split.targets_NC,
        scores_NC,
        decisions_NC,
        split.labels,
        sklearn_undefined=PRESETS["paper"].sklearn_undefined,
    )
    return ours + [
        replace(score, metric=f"paper.{score.metric}")
        for score in papers
        if score.metric in PAPER_METRICS and not score.label
    ]


def _by_the_paper(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Scores and decisions by the paper's rules; `all-positive` stays what it is, which min-max would not."""
    if setting.name == ALL_POSITIVE:
        return np.ones_like(setting.test_scores_NC), setting.test_decisions_NC
    scores_NC = PRESETS["paper"].scores(setting.test_scores_NC)
    return scores_NC, PRESETS["paper"].decisions(scores_NC)


def _luck(split: HeldOut, setting: Setting, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, 2.5th and 97.5th percentile of every row over throws of random scores; NaN stays NaN."""
    rng = np.random.default_rng([seed, RANDOM_DRAWS])
    shape = setting.test_scores_NC.shape
    throws_RS = np.array(
        [
            [
                score.value
                for score in _evaluated(split, replace(setting, test_scores_NC=rng.normal(size=shape)))
            ]
            for _ in range(RANDOM_DRAWS)
        ]
    )
    low_S, high_S = np.percentile(throws_RS, [2.5, 97.5], axis=0)
    return throws_RS.mean(axis=0), low_S, high_S


@dataclass(frozen=True, kw_only=True, eq=False)
class Replicates:
    """The scores of one setting under each resample of the patients."""

    by_label: dict[str, np.ndarray]
    """metric -> (E, B)."""
    by_image: dict[str, np.ndarray]
    """Means over images, `paper.<metric>` among them: metric -> (B,)."""
    micro: dict[str, np.ndarray]
    """metric -> (B,), from the counts of all labels together."""
    paper_f1_C: np.ndarray
    """F1 by the paper's rules of each label, NaN without positives; the value, then its replicates."""
    paper_f1_CB: np.ndarray


def _replicates(split: HeldOut, setting: Setting, weights_PB: np.ndarray) -> Replicates:
    rows_N, targets_NE = split.patients_N, split.targets_NE
    unit_NE = split.with_domains(setting.test_unit_NC)
    pairs = [
        st.weighted_ranking(targets_NE[:, e], unit_NE[:, e], rows_N, weights_PB)
        for e in range(targets_NE.shape[1])
    ]
    by_label = {
        metric: np.stack(column)
        for metric, column in zip(st.RANKING_METRICS, zip(*pairs, strict=True), strict=True)
    }
    decisions_NE = split.with_domains(setting.test_decisions_NC)
    counts = st.weighted_confusion(targets_NE, decisions_NE, rows_N, weights_PB)
    by_label |= st.decision_metrics(*counts)
    if setting.kind == "logits":
        brier_CB = st.weighted_brier(split.targets_NC, setting.test_unit_NC, rows_N, weights_PB)
        constant_NC = np.broadcast_to(split.prevalences_C, split.targets_NC.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            skill_CB = 1 - brier_CB / metrics.brier(split.targets_NC, constant_NC)[:, None]
        by_label |= {"brier": brier_CB, "brier_skill": skill_CB}
    pooled = st.decision_metrics(*(count[: len(split.labels)].sum(axis=0) for count in counts))

    paper_NC, paper_decisions_NC = _by_the_paper(setting)
    paper_counts = st.weighted_confusion(split.targets_NC, paper_decisions_NC, rows_N, weights_PB)

    columns = {}
    for prefix, scores_NC, decisions_NC, fills in (
        ("", setting.test_unit_NC, setting.test_decisions_NC, {}),
        ("paper.", paper_NC, paper_decisions_NC, SKLEARN_FILL),
    ):
        for metric in PER_IMAGE:
            predicted_NC = decisions_NC if metric == "exact_match" else scores_NC
            values_N = getattr(metrics, metric)(split.targets_NC, predicted_NC)
            columns[prefix + metric] = np.where(np.isnan(values_N), fills.get(metric, np.nan), values_N)
    means_MB = st.weighted_mean(np.stack(list(columns.values()), axis=1), rows_N, weights_PB)
    return Replicates(
        by_label=by_label,
        by_image=dict(zip(columns, means_MB, strict=True)),
        micro={f"micro_{metric}": pooled[metric] for metric in ("f1", "precision", "recall")},
        paper_f1_C=metrics.f1(metrics.confusion(split.targets_NC, paper_decisions_NC)),
        paper_f1_CB=st.decision_metrics(*paper_counts)["f1"],
    )


def _interval(
    split: HeldOut,
    setting: Setting,
    score: metrics.Score,
    scored: Sequence[metrics.Score],
    replicates: Replicates,
) -> tuple[float, float]:
    metric = score.metric
    if not np.isfinite(score.value):
        return np.nan, np.nan
    if setting.constant and metric not in replicates.by_image and score.label == "":
        # The same decision for every image scores the same in any resample of this prevalence.
        return score.value, score.value
    if score.label:
        e = split.names.index(score.label)
        replicates_B, patients = replicates.by_label[metric][e], int(split.positive_patients_E[e])
        return st.label_interval(score.value, replicates_B, patients, BOUNDS.get(metric, UNIT))
    if metric == "paper.macro_f1":
        # Labels with no or one positive patient have no spread to estimate: their share is held fixed.
        patients_C = split.positive_patients_E[: len(split.labels)]
        spread_C = patients_C >= 2
        if not spread_C.any():
            return np.nan, np.nan
        f1_C = np.nan_to_num(replicates.paper_f1_C)
        low, high = st.average_interval(
            f1_C[spread_C], replicates.paper_f1_CB[spread_C], patients_C[spread_C]
        )
        fixed = f1_C[~spread_C].sum() / len(f1_C)
        return fixed + spread_C.mean() * low, fixed + spread_C.mean() * high
    if metric.startswith("macro_"):
        metric = MACRO_OF.get(metric, metric.removeprefix("macro_"))
        averaged = np.flatnonzero(split.averaged_C)
        of_label = {s.label: s.value for s in scored if s.metric == metric}
        values_C = np.array([of_label[split.labels[c]] for c in averaged])
        return st.average_interval(
            values_C,
            replicates.by_label[metric][averaged],
            split.positive_patients_E[averaged],
            BOUNDS.get(metric, UNIT),
        )
    if metric in replicates.by_image:
        replicates_B, patients = replicates.by_image[metric], split.patients
    else:
        replicates_B, patients = replicates.micro[metric], split.patients_behind(score.metric, score.label)
    if patients < st.MIN_POSITIVE_PATIENTS:
        return np.nan, np.nan
    bounds = (0.0, float(len(split.labels))) if metric.endswith("coverage_error") else UNIT
    return st.interval(score.value, st.spread(replicates_B, patients), patients - 1, patients, bounds)


UNIT = (0.0, 1.0)
BOUNDS = {"mcc": (-1.0, 1.0), "brier_skill": None}
MACRO_OF = {"macro_ap": "average_precision"}
PER_IMAGE = ("exact_match", "lrap", "coverage_error", "ranking_loss")
SKLEARN_FILL = {"lrap": 1.0, "coverage_error": 0.0, "ranking_loss": 0.0}
"""What scikit-learn counts for an image without a positive label, where ours leave the image out."""


def compare(
    split: HeldOut,
    settings: Sequence[Setting],
    best: str,
    opponents: Sequence[str],
    replicates: Mapping[str, Replicates | None],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The best configuration against its opponents: paired permutation tests over patients, Holm in a family.

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
    values = {name: _ranking_values(split, by_name[name]) for name in (best, *opponents) if name in by_name}
    rows = []
    for name in opponents:
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
        deviation_CB = (
            replicates[best].by_label["average_precision"] - replicates[name].by_label["average_precision"]
        )
        low, high = st.average_interval(
            difference_C[averaged],
            deviation_CB[averaged],
            split.positive_patients_E[averaged],
            bounds=None,
        )
        rows.append(("average", best, name, "macro_ap", "", difference_C[averaged].mean(), low, high, p))
        observed_C, null_CB = null["auroc"]
        difference_C = values[best]["auroc"] - values[name]["auroc"]
        deviation_CB = replicates[best].by_label["auroc"] - replicates[name].by_label["auroc"]
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
    names = {trial.name for trial in trials} | {ZERO_SHOT, PROMPTED, PIXELS, LOGREG}
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


def describe(settings: Sequence[Setting], trials: Sequence[FinishedTrial]) -> pd.DataFrame:
    """One row a setting: setting, trial number (missing for a floor), threshold strategy, note."""
    numbers = {trial.name: trial.number for trial in trials}
    rows = [(one.name, numbers.get(one.name), one.strategy, one.note) for one in settings]
    return pd.DataFrame(rows, columns=["setting", "trial", "strategy", "note"])


def predictions_on_test(
    cohort: Cohort, test_N: np.ndarray, settings: Sequence[Setting], trials: Sequence[FinishedTrial]
) -> pd.DataFrame:
    """One row a trial and test image: setting, image, `probability.<label>` and `decision.<label>`."""
    names = {trial.name for trial in trials}
    frames = []
    for setting in settings:
        if setting.name in names:
            frame = pd.DataFrame({"setting": setting.name, "image": cohort.images(test_N)})
            for c, label in enumerate(cohort.labels):
                frame[f"probability.{label}"] = setting.test_unit_NC[:, c]
            for c, label in enumerate(cohort.labels):
                frame[f"decision.{label}"] = setting.test_decisions_NC[:, c].astype(np.int8)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def summary(
    sentence: str,
    scores: pd.DataFrame,
    settings: Sequence[Setting],
    fall: pd.DataFrame,
    claims: Sequence[Claim],
    best: str,
) -> str:
    """Headline, the table of all settings, the fall from validation to test, and the claims in brief."""
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    columns = {
        "macro_auroc": ("macro AUROC", 21),
        "macro_ap": ("macro AP", 21),
        "macro_f1": ("macro F1", 21),
        "lrap": ("LRAP", 7),
        "coverage_error": ("coverage", 10),
        "exact_match": ("exact", 7),
    }
    name_width = max(len(setting.name) for setting in settings)
    lines = [" " * name_width + "".join(f"{title:>{width}}" for title, width in columns.values())]
    for setting in settings:
        cells = ""
        for metric, (_, width) in columns.items():
            row = averages.loc[(setting.name, metric)]
            cells += f"{ranged(row) if width > 10 else format(row['value'], '.3f'):>{width}}"
        lines.append(f"{setting.name:<{name_width}}{cells}")
    count = int(averages.loc[(settings[-1].name, "macro_auroc")]["labels_averaged"])
    averaged = f"{count} label{'s' if count > 1 else ''}, the same in every row"
    lines.append(f"macro averages over {averaged}; 95 % intervals over patients")
    metric = fall["metric"].iloc[0]
    falls = [
        f"  {row.setting:<{name_width}}  {row.validation:.3f} -> {row.test:.3f}  ({signed(-row.fall)})"
        for row in fall.itertuples()
    ]
    average = next(claim for claim in claims if claim.label == "")
    spoken = [claim for claim in claims if claim.label and not claim.silent]
    silent = [f"{claim.label} ({claim.score.removesuffix(' on test')})" for claim in claims if claim.silent]
    label_width = max([len("average"), *(len(claim.label) for claim in spoken)])
    said = [
        line
        for claim in (average, *spoken)
        for line in textwrap.wrap(
            f"{claim.label or 'average':<{label_width}}  {claim.brief}",
            110,
            initial_indent="  ",
            subsequent_indent=" " * (label_width + 4),
        )
    ]
    if silent:
        said += textwrap.wrap(
            f"no claim: {', '.join(silent)}", 110, initial_indent="  ", subsequent_indent="  "
        )
    return "\n".join(
        [
            *textwrap.wrap(sentence, 110),
            "",
            *lines,
            "",
            f"{metric} from validation to test:",
            *falls,
            "",
            f"what may be claimed of {best} (macro AP; AUROC of a label):",
            *said,
        ]
    )
