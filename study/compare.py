"""`radtune compare`: any encoders on any cohorts, with the cache and the folds of a study, pixels beneath."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from analysis.compare import (
    Candidates,
    Comparison,
    Measured,
    kinds_of_image,
    measure,
    paired,
)
from analysis.comparison_page import headline, write_comparison
from analysis.judging.evaluation_set import EvaluationSet, development_set, open_test_split
from cohort.errors import InputError
from cohort.files import refuse_foreign
from cohort.ledger import Ledger
from cohort.manifest import SPLITS, Cohort
from cohort.remote_files import mirror
from study.inputs import Inputs
from trainables.trial_data import ProbeData
from vlm.cohort_features import CohortFeatures
from vlm.embeddings import embed
from vlm.encoder_names import PIXELS, distinct_names, name_for, shown_apart
from vlm.encoders import Encoder, load_encoder
from vlm.feature_kinds import POOLED, PROJECTED, FeatureKind, base_kind

RESAMPLES = 2000
"""Behind each interval."""
DRAWS = 10_000
"""Of each paired test at least."""
OWN = ("comparison.csv", "paired.csv", "report.html", "figures")


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """What `compare_encoders` wrote."""

    headline: str
    table: pd.DataFrame
    """`comparison.csv`: encoder, cohort, setting (kind of features), metric, label, value, low, high, chance,
    chance_low, chance_high, p, p_adjusted, positives, positive_patients, overlay, text, place, size,
    contrast."""
    report: Path


def compare_encoders(
    cohorts: Sequence[Path | str],
    encoders: Sequence[str],
    out: Path | str,
    *,
    features: Sequence[str] = (PROJECTED,),
    on: Literal["development", "test"] = "development",
    cache: Path | str = "cache",
    seed: int = 0,
    echo: Callable[[str], None] = print,
) -> ComparisonResult:
    """Measure every encoder, and raw pixels, on every cohort's patients and write a page.

    Each image is embedded once an encoder, and never where the cache holds it.

    Args:
        features: kinds of `vlm.feature_kinds`; an encoder without projected ones gives its pooled ones in
            their place, and one without any of the others leaves those out.
        on: development compares by out-of-fold scores of training and validation patients, so that an encoder
            may be chosen by it and be judged on test afterwards; test opens the test labels.
        out: its folder; an earlier comparison there is replaced.

    Raises:
        InputError: a folder that holds something else, a cohort without one of the splits or without labels
            to score, an encoder that cannot be loaded or cannot read the images.
    """
    folder = Path(out)
    refuse_foreign(folder, OWN, "comparison")
    opened = _opened(cohorts, on)
    splits: dict[str, EvaluationSet] = {}
    measured: list[Measured] = []
    wanted = [*(name for name in dict.fromkeys(encoders) if name != PIXELS), PIXELS]
    for asked, called in zip(wanted, shown_apart(wanted), strict=True):
        encoder = None
        for name, cohort in opened.items():
            if encoder is None or asked == PIXELS:  # which sees colour where there is
                encoder = load_encoder(name_for(asked, cohort.channels), features=None)
            embeddings = embed(cohort, encoder, cache=cache)
            data = Inputs(
                cohort=cohort,
                encoder=encoder,
                embeddings=embeddings,
                seed=seed,
                selection="cross_validation",
            ).data
            if name not in splits:
                splits[name] = _evaluated(cohort, data, on, Ledger(cohort, mirror(cache)))
            candidates = Candidates(
                cohort=cohort,
                name=name,
                encoder_name=called,
                split=splits[name],
                data=data,
                encoder=encoder,
                kinds=_kinds(encoder, features),
                features=CohortFeatures(cohort, cache, (encoder.fingerprint, embeddings)),
                # What an earlier pass noted was measured on another day, perhaps on another machine.
                images_per_second=math.nan if embeddings.cached else embeddings.images_per_second,
            )
            measured += measure(candidates, resamples=RESAMPLES, seed=seed)
            echo(_line(measured[-1], len(cohort.present)))
        gc.collect()  # a tower is large, and the next one comes
    tables = [one.table for one in measured] + [kinds_of_image(measured, splits, seed)]
    comparison = Comparison(
        cohorts=opened,
        splits=splits,
        table=pd.concat([table for table in tables if len(table)], ignore_index=True),
        paired=paired(measured, splits, resamples=RESAMPLES, draws=DRAWS, seed=seed),
    )
    report = write_comparison(comparison, folder)
    return ComparisonResult(headline=headline(comparison), table=comparison.table, report=report)


def _evaluated(cohort: Cohort, data: ProbeData, on: str, ledger: Ledger) -> EvaluationSet:
    """The images that encoders are compared on."""
    if on == "test":
        return open_test_split(cohort, data.scored_C, ledger, "compare encoders")
    return development_set(cohort, data.rows_N, data.scored_C)


def _opened(cohorts: Sequence[Path | str], on: str) -> dict[str, Cohort]:
    """By the names of their folders, with as much of their paths as tells them apart; InputError where one
    cannot be compared on."""
    names = distinct_names([str(path) for path in cohorts])
    opened = {name: Cohort.open(path) for name, path in zip(names, cohorts, strict=True)}
    if len(opened) < len(cohorts):
        raise InputError("--cohort: the same cohort is given twice")
    for name, cohort in opened.items():
        needed = SPLITS if on == "test" else ("train", "val")
        if lacking := [split for split in needed if split not in cohort.splits]:
            raise InputError(
                f"{name}: a comparison on {on} images needs the splits {', '.join(needed)}, and this cohort "
                f"has no {lacking[0]}; build it with one"
            )
    return opened


def _kinds(encoder: Encoder, features: Sequence[str]) -> list[FeatureKind]:
    """Those of the wanted kinds that the encoder has, or has another in place of; its base kind if none."""
    kinds = []
    for name in features:
        base = name in (PROJECTED, POOLED) and name not in encoder.kinds
        kind = base_kind(encoder.kinds) if base else encoder.kinds.get(name)
        if kind is not None and kind not in kinds:
            kinds.append(kind)
    return kinds or [base_kind(encoder.kinds)]


def _line(one: Measured, images: int) -> str:
    speed = "embedded before"
    if np.isfinite(one.images_per_second):
        speed = f"embedded at {one.images_per_second:,.0f} images/s"
    table = one.table
    auroc = table[(table["metric"] == "probe.macro_auroc") & (table["label"] == "")]["value"].iloc[0]
    what = f"{one.encoder} on {one.cohort}: {images:,} images {speed}"
    return f"{what}, probe's macro AUROC {auroc:.3f}"
