"""What was learnt from and scored on, and with which encoder, code and packages."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata as packages

from analysis.judging.judgement import Judgement
from analysis.section import Part, Row, Section, Table, Terms, Words
from vlm.encoder_names import shown

TITLE = "Data and provenance"

LIBRARIES = ("torch", "open_clip_torch", "ray", "optuna", "scikit-learn", "numpy")


def run(judgement: Judgement) -> Section:
    entries = [(name, "", value) for name, value in _provenance(judgement).items() if value]
    parts: list[Part] = [_counts(judgement), Terms(entries=entries)]
    if judgement.cohort.warnings:
        parts.append(Words(text=" · ".join(judgement.cohort.warnings), kind="note"))
    return Section(parts=parts)


def _counts(judgement: Judgement) -> Table:
    splits = judgement.split.counts
    rows = [Row(cells=["all", *(f"{split.images:,} ({split.patients:,})" for split in splits), ""])]
    for c, label in enumerate(judgement.cohort.labels):
        cells = [f"{split.positives_C[c]:,} ({split.patients_C[c]:,})" for split in splits]
        masked = f"{sum(split.masked_C[c] for split in splits):,}"
        rows.append(Row(cells=[judgement.cohort.label_name(label), *cells, masked]))
    columns = ["positive images (patients)", *(split.split for split in splits), "masked"]
    return Table(columns=columns, rows=rows)


def _provenance(judgement: Judgement) -> dict[str, str]:
    cohort, encoder = judgement.cohort, judgement.predictions.facts["encoder"]
    versions = ", ".join(f"{name} {packages.version(name)}" for name in LIBRARIES)
    return {
        "cohort": f"{cohort.source}; {cohort.modality}; content hash {cohort.content_hash[:16]}",
        "terms of use": cohort.licence,
        "label policy": cohort.policy.described(cohort.labels),
        "flow": " → ".join(f"{what} {count:,}" for what, count in cohort.flow),
        "encoder": f"{shown(encoder['name'])}, {', '.join(encoder['features'])} features, "
        f"{encoder['width']} wide, fingerprint {encoder['fingerprint'][:16]}",
        **judgement.study.provenance,
        "written": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "software": f"Python {platform.python_version()}, {versions}",
    }
