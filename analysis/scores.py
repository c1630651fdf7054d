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

from analysis.claims import Claim, average_claim, headline, label_claims, ranged, signed
from analysis.comparisons import compare
from analysis.report import write_report
from analysis.score_table import score_setting
from analysis.settings import (
    LOGREG,
    PAPER,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    ZERO_SHOT,
    FinishedTrial,
    Setting,
    floors_and_trials,
)
from analysis.test_split import TestSplit, open_test_labels
from cohort.errors import InputError
from cohort.files import write_atomically
from cohort.manifest import Cohort
from cohort.patients import patient_folds
from scoring import judging
from scoring.judging import JudgedRows
from scoring.metrics import auroc, average_precision, confusion, f1, macro
from scoring.resampling import patient_weights
from vlm.encoders import Encoder

__all__ = ["AnalysisResult", "FinishedTrial", "analyze", "read_tables"]

OPPONENTS = (PREVALENCE, ZERO_SHOT, PROMPTED, PIXELS, LOGREG, PAPER)
"""What the best configuration is tested against, with the study beside it where there is one; fixed before
any test score exists."""


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
        seed: the study's, of its validation folds; of the resamples and the draws too.
        title: the study's name.
        metadata: extra lines for the report's provenance table, in order (library versions, revision).

    Raises:
        InputError: a split is empty, no objective label has enough positive patients on test, or the study
            beside bears the name of another row.
    """
    test_N = cohort.indices("test")
    scored = [*trials, beside] if beside else list(trials)
    split = open_test_labels(cohort, test_N, objective_labels_C)
    rows = validation_rows(cohort, objective_labels_C, seed)
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
            rows,
            seed,
            step,
        )
        if beside and sum(setting.name == beside.name for setting in settings) > 1:
            raise InputError(
                f"analysis.beside: a study named {beside.name} cannot stand beside the row of that name; "
                "run it under another name"
            )
        weights_PB = patient_weights(split.patients, bootstrap, seed)
        frames, rankings = [], {}
        for setting in settings:
            step(f"intervals: {setting.name}")
            frame, rankings[setting.name] = score_setting(split, setting, weights_PB, seed)
            frames.append(frame)
        scores = pd.concat(frames, ignore_index=True)

        best = "best-1" if any(setting.name == "best-1" for setting in settings) else settings[-1].name
        step("paired tests")
        opponents = (*OPPONENTS, beside.name) if beside else OPPONENTS
        comparisons = compare(split, settings, best, opponents, rankings, draws=bootstrap, seed=seed)

    fall = validation_to_test(rows, split, settings, scored, objective)
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


def validation_rows(cohort: Cohort, objective_labels_C: np.ndarray, seed: int) -> JudgedRows:
    """Validation as the study of this seed judged its trials on it."""
    val_N = cohort.indices("val")
    targets_NC, patients_N = cohort.targets_NC(val_N), cohort.patients_N(val_N)
    return JudgedRows(
        targets_NC=targets_NC,
        patients_N=patients_N,
        folds_N=patient_folds(targets_NC, patients_N, seed=seed),
        averaged_C=objective_labels_C,
    )


def validation_to_test(
    rows: JudgedRows,
    split: TestSplit,
    settings: Sequence[Setting],
    trials: Sequence[FinishedTrial],
    objective: str,
) -> pd.DataFrame:
    """The objective on validation and on test over the same labels, and the fall between them.

    macro_f1 is that of the decisions on test, against its cross-fitted value on validation.
    """
    rows = replace(rows, averaged_C=split.averaged_C)
    names = {trial.name for trial in trials} | {ZERO_SHOT, PROMPTED, PIXELS, LOGREG}
    falls = []
    for setting in settings:
        if setting.name not in names:
            continue
        arguments = (objective, setting.val_scores_NC[None], rows, [setting.shrinkage], setting.scale)
        validation = float(judging.objective(*arguments)[0])
        if objective == "macro_f1":
            test_C = f1(confusion(split.targets_NC, setting.test_decisions_NC))
        else:
            metric = average_precision if objective == "macro_ap" else auroc
            test_C = metric(split.targets_NC, setting.test_scores_NC)
        test = float(macro(test_C, split.averaged_C).value)
        falls.append((setting.name, objective, validation, test, validation - test))
    return pd.DataFrame(falls, columns=["setting", "metric", "validation", "test", "fall"])


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
