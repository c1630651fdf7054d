"""The report: one HTML file that needs no network, and its figures as PNG files.

Shape legend: N images, C labels.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis import figures
from analysis.claims import RULES, Claim, ranged, signed
from analysis.settings import (
    FLOORS,
    LOGREG,
    PAPER,
    PIXELS,
    ZERO_SHOT,
    FinishedTrial,
    Setting,
)
from cohort.files import write_atomically
from cohort.manifest import SPLITS, Cohort
from cohort.patients import positive_patients
from scoring.intervals import MIN_POSITIVE_PATIENTS
from vlm.encoders import Encoder

PUBLISHED = {
    "zero-shot": (0.105, 0.000, 0.250, 7.70),
    "fine-tune": (0.235, 0.134, 0.779, 2.750),
    "linear probe": (0.183, 0.143, 0.741, 3.077),
}
"""Macro-F1, exact match, LRAP, coverage error: the table of arXiv 2506.14136 (IU-Xray, authors' labels)."""
AVERAGES = ("macro_auroc", "macro_ap", "macro_f1", "micro_f1", "lrap", "coverage_error", "exact_match")
PAPERS = ("paper.macro_f1", "paper.exact_match", "paper.lrap", "paper.coverage_error", "paper.ranking_loss")
LIBRARIES = ("torch", "open_clip_torch", "ray", "optuna", "scikit-learn", "numpy")


def write_report(
    folder: Path,
    *,
    title: str,
    headline: str,
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    fall: pd.DataFrame,
    claims: Sequence[Claim],
    settings: Sequence[Setting],
    trials: Sequence[FinishedTrial],
    trials_table: pd.DataFrame,
    objective: str,
    averaged_C: np.ndarray,
    best: str,
    cohort: Cohort,
    encoder: Encoder,
    no_zero_shot: str,
    bootstrap: int,
    metadata: Mapping[str, str],
) -> Path:
    """Draw the figures, fill the template, and write `folder/report.html` and `folder/figures/*.png`.

    Args:
        folder: `RUN/analysis`.
        title: the study's name.
        headline: one sentence.
        scores, comparisons, fall, claims: as `analysis.scores.AnalysisResult` has them.
        settings: the rows of the score table, in order.
        trials, trials_table, objective: as `analysis.scores.analyze` takes them.
        averaged_C: bool (C,), the labels behind the averages.
        best: the setting that the claims are about.
        cohort, encoder: for the account of data and encoder.
        no_zero_shot: why there is no zero-shot row; empty where there is one.
        bootstrap: resamples and draws behind the intervals and tests.
        metadata: further provenance, name -> value.

    Returns:
        The path of the report.
    """
    present = [setting.name for setting in settings]
    test_targets_NC = cohort.targets_NC(cohort.indices("test"))
    floors_on_validation = {
        row.setting: row.validation for row in fall.itertuples() if row.setting in (PAPER, LOGREG)
    }
    drawn = {
        "forest": figures.forest(
            scores,
            cohort.labels,
            best,
            [name for name in (ZERO_SHOT, PIXELS, LOGREG, PAPER) if name in present and name != best],
            MIN_POSITIVE_PATIENTS,
        ),
        "fall": figures.validation_test(fall, objective),
        "search_history": figures.search_history(trials_table, objective, floors_on_validation),
        "search_slices": figures.search_slices(trials_table, objective),
        "learning_curves": figures.learning_curves(trials, objective),
        "reliability": figures.reliability(
            test_targets_NC,
            {
                setting.name: setting.test_unit_NC
                for setting in settings
                if setting.name in (LOGREG, PAPER, best)
            },
            averaged_C,
        ),
    }
    svg = {
        name: Markup(figures.write(figure, folder / "figures" / f"{name}.png"))
        for name, figure in drawn.items()
    }
    html = _template().render(
        title=title,
        headline=headline,
        best=best,
        figures=svg,
        rows=_setting_rows(scores, settings, best),
        published=PUBLISHED if "iu-xray" in cohort.source.lower() else {},
        labels=_label_rows(scores, claims, settings, trials, cohort, best, averaged_C),
        domains=_domain_rows(scores, best),
        claims=claims,
        rules=RULES,
        strategy=next(one.strategy for one in settings if one.name == best).replace("_", " "),
        fall=fall.to_dict("records"),
        objective=figures.OBJECTIVES[objective],
        finalists=[trial for trial in trials if trial.seeds or trial.splits],
        trials=trials,
        parameters=sorted({name for trial in trials for name in trial.params}),
        states=trials_table["state"].value_counts().to_dict(),
        no_zero_shot=no_zero_shot,
        bootstrap=bootstrap,
        averaged=[label for label, used in zip(cohort.labels, averaged_C, strict=True) if used],
        minimum=MIN_POSITIVE_PATIENTS,
        splits=split_rows(cohort),
        cohort=cohort,
        encoder=encoder,
        provenance=_provenance(cohort, encoder, metadata),
        limits=limits_of(cohort, claims),
    )
    path = folder / "report.html"
    write_atomically(path, html.encode())
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["score"] = _score
    environment.filters["signed"] = signed
    environment.filters["spread"] = _spread
    environment.filters["mean_deviation"] = lambda values: (
        f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    )
    environment.filters["parameter"] = lambda value: (
        f"{value:.3g}" if isinstance(value, float) else str(value)
    )
    return environment.get_template("report.html")


def _score(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _spread(row: pd.Series) -> Markup:
    """The interval in small figures on a line of its own; nothing where there is none or it is a point."""
    if not row["high"] - row["low"] > 1e-6:
        return Markup("")
    return Markup(f'<div class="range">{_score(row["low"], 2)} to {_score(row["high"], 2)}</div>')


def _setting_rows(scores: pd.DataFrame, settings: Sequence[Setting], best: str) -> list[dict[str, Any]]:
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    auroc = averages.xs("macro_auroc", level="metric")
    bottom = min(0.45, float(np.nanmin(auroc[["value", "low"]])))
    top = max(0.6, float(np.nanmax(auroc[["value", "high"]])))
    rows = []
    for setting in settings:
        cells = {metric: averages.loc[(setting.name, metric)] for metric in (*AVERAGES, *PAPERS)}
        colour = figures.BEST if setting.name == best else figures.COLOURS.get(setting.name, "#56B4E9")
        trial = setting.name not in FLOORS
        rows.append(
            {
                "name": setting.name,
                "note": setting.note,
                "strategy": setting.strategy,
                "kind": "best" if setting.name == best else "trial" if trial else "floor",
                "cells": cells,
                "strip": _strip(cells["macro_auroc"], bottom, top, colour),
            }
        )
    return rows


def _strip(row: pd.Series, bottom: float, top: float, colour: str, width: int = 120) -> Markup:
    """A value and its interval as a small drawing, with a tick at 0.5."""

    def x(value: float) -> float:
        return 4 + (width - 8) * (value - bottom) / (top - bottom)

    parts = [f'<line x1="{x(0.5):.1f}" x2="{x(0.5):.1f}" y1="2" y2="16" class="chance"/>']
    if np.isfinite(row["low"]):
        low, high = max(row["low"], bottom), min(row["high"], top)
        parts.append(
            f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="9" y2="9" stroke="{colour}" stroke-width="2"/>'
        )
    if np.isfinite(row["value"]):
        parts.append(f'<circle cx="{x(row["value"]):.1f}" cy="9" r="3.6" fill="{colour}"/>')
    title = f"<title>{ranged(row)}</title>"
    return Markup(f'<svg class="strip" width="{width}" height="18" role="img">{title}{"".join(parts)}</svg>')


def _label_rows(
    scores: pd.DataFrame,
    claims: Sequence[Claim],
    settings: Sequence[Setting],
    trials: Sequence[FinishedTrial],
    cohort: Cohort,
    best: str,
    averaged_C: np.ndarray,
) -> list[dict[str, Any]]:
    own = scores[scores["setting"] == best].set_index(["metric", "label"])
    thresholds_C = next(setting for setting in settings if setting.name == best).thresholds_C
    shared_C = next(trial for trial in trials if trial.name == best).shared_C
    train_NC, test_NC = (cohort.targets_NC(cohort.indices(split)) for split in ("train", "test"))
    rows = []
    for c, label in enumerate(cohort.labels):
        claim = next(claim for claim in claims if claim.label == label)
        cells = {
            metric: own.loc[(metric, label)]
            for metric in ("auroc", "average_precision", "f1", "precision", "recall")
        }
        known = ~np.isnan(train_NC[:, c])
        rows.append(
            {
                "label": label,
                "claim": claim,
                "averaged": bool(averaged_C[c]),
                "train_positives": int((train_NC[:, c] == 1).sum()),
                "train_prevalence": float((train_NC[known, c] == 1).mean()) if known.any() else np.nan,
                "test_prevalence": float(np.nanmean(test_NC[:, c]))
                if (~np.isnan(test_NC[:, c])).any()
                else np.nan,
                "positives": int(cells["auroc"]["positives"]),
                "patients": int(cells["auroc"]["positive_patients"]),
                "cells": cells,
                "threshold": float(thresholds_C[c]),
                "shared": bool(shared_C[c]),
            }
        )
    return sorted(rows, key=lambda row: -row["patients"])


def _domain_rows(scores: pd.DataFrame, best: str) -> list[dict[str, Any]]:
    own = scores[(scores["setting"] == best) & scores["label"].str.startswith("domain:")]
    return [
        {
            "name": label.removeprefix("domain:"),
            "cells": {metric: row for metric, row in rows.set_index("metric").iterrows()},
            "positives": int(rows["positives"].iloc[0]),
            "patients": int(rows["positive_patients"].iloc[0]),
        }
        for label, rows in own.groupby("label", sort=False)
    ]


def split_rows(cohort: Cohort) -> list[dict[str, Any]]:
    """Images, patients, and positive images, positive patients and masked images of each label, by split."""
    rows = []
    for split in SPLITS:
        rows_N = cohort.indices(split)
        targets_NC, patients_N = cohort.targets_NC(rows_N), cohort.patients_N(rows_N)
        rows.append(
            {
                "split": split,
                "images": len(rows_N),
                "patients": len(np.unique(patients_N)),
                "positives_C": (targets_NC == 1).sum(axis=0).tolist(),
                "patients_C": positive_patients(targets_NC, patients_N).tolist(),
                "masked_C": np.isnan(targets_NC).sum(axis=0).tolist(),
            }
        )
    return rows


def _provenance(cohort: Cohort, encoder: Encoder, metadata: Mapping[str, str]) -> dict[str, str]:
    policy = cohort.policy.to_dict()
    versions = ", ".join(f"{name} {packages.version(name)}" for name in LIBRARIES)
    return {
        "cohort": f"{cohort.source}; content hash {cohort.content_hash[:16]}",
        "label policy": ", ".join(f"{name.replace('_', ' ')}: {rule}" for name, rule in policy.items()),
        "flow": " → ".join(f"{what} {count:,}" for what, count in cohort.flow),
        "encoder": f"{encoder.name}, {encoder.features} features, {encoder.width} wide, "
        f"fingerprint {encoder.fingerprint[:16]}",
        **metadata,
        "written": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "software": f"Python {platform.python_version()}, {versions}",
    }


def limits_of(cohort: Cohort, claims: Sequence[Claim]) -> list[str]:
    """What the numbers do not show, in sentences."""
    silent = [claim.label for claim in claims if claim.silent]
    limits = [
        "One cohort and one test split. The intervals say how far other patients of the same source would "
        "move these numbers for this very model; they do not cover another hospital, another labeller, or "
        "training again.",
        "The intervals keep the test split's own prevalence. Precision, F1 and average precision are lower "
        "where a finding is rarer.",
        "Average precision is too high on average for a label with few positives; this affects all rows of a "
        "table alike, so compare rows rather than cohorts.",
        f"Labels follow the stated policy and are taken as true; source: {cohort.source}.",
    ]
    if silent:
        limits.insert(
            1, f"No claim is made about {len(silent)} of {len(cohort.labels)} labels: {', '.join(silent)}."
        )
    if cohort.drawn:
        limits.insert(
            0,
            "The images are drawn phantoms. They exercise the platform; nothing here says anything about "
            "medicine.",
        )
    return limits
