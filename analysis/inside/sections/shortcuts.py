"""How well the same features discriminate what is no finding, and whether the answer holds among images that
share it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.inside.models import Models
from analysis.inside.shortcuts import Attribute, attribute_score, attributes, frame, level_of_each, within
from analysis.number_format import NONE, score, signed
from analysis.section import Cell, Row, Section, Table, Words
from trainables.baselines import LOGREG
from vlm.feature_kinds import base_kind

TITLE = "What else the features discriminate"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """One line of the table."""

    attribute: Attribute
    auroc: tuple[float, float, float]
    """AUROC of the attribute with its interval."""
    overall: float
    inside: float
    change: tuple[float, float, float]
    """inside - overall with its interval."""
    labels: int


def run(models: Models) -> Section:
    split = models.judgement.split
    known = attributes(models.judgement.cohort, models.data.rows_N, split.rows_N)
    if not known:
        return Section(
            parts=[
                Words(
                    text="The cohort keeps nothing of its images that enough patients share and others do "
                    "not: no view, sex, age, device or site. `radtune cohort table --keep sex,age,...` keeps "
                    "columns of its table."
                )
            ]
        )
    found, rows = [], []
    level = level_of_each(len(known))
    for attribute in known:
        one, lines = _look(models, attribute, level)
        found.append(one)
        rows += lines
    averages = models.judgement.scores[
        (models.judgement.scores["setting"] == LOGREG) & (models.judgement.scores["metric"] == "macro_auroc")
    ]
    findings = averages[averages["label"] == ""].iloc[0]
    return Section(
        parts=[
            Words(text=_sentence(models, found, float(findings["value"]))),
            _table(models, found, findings),
            Words(
                text="The intervals of attributes and changes hold at 95 % for all of the table together "
                "(Bonferroni). A fall within one value is what a shortcut leaves, and what case mix leaves "
                "without one: where an attribute goes along with findings, pairs of images that differ in it "
                "are easier to rank.",
                kind="note",
            ),
        ],
        tables={"shortcuts": frame(rows)},
    )


def _look(models: Models, attribute: Attribute, level: float) -> tuple[_Found, list[tuple]]:
    split, data, best = models.judgement.split, models.data, models.judgement.answer
    features_ND = models.features(models.encoder, data.precision)
    auroc = attribute_score(
        attribute, data, features_ND, split.rows_N, split.patients_N, models.judgement.weights_PB, level
    )
    inside = within(
        attribute,
        split.targets_NC,
        best.test_ranked_NC,
        split.rows_N,
        split.patients_N,
        models.judgement.weights_PB,
    )
    used = inside.known_C(split.averaged_C)
    rows = [("frozen", "auroc_of_attribute", "", *auroc, attribute.name, "", np.nan)]
    for c, (label, one) in enumerate(zip(split.labels, inside.each, strict=True)):
        patients = int(split.positive_patients_C[c])
        rows.append(
            (best.name, "auroc_within", label, one.value, np.nan, np.nan, attribute.name, "", patients)
        )
        rows += [
            (best.name, "auroc", label, value, low, high, attribute.name, attribute.values[place], count)
            for place, value, low, high, count in one.strata
        ]
    change = (np.nan,) * 3
    if len(used):
        change = inside.change(used, level)
        rows.append((best.name, "auroc_change_within", "", *change, attribute.name, "", np.nan))
    return (
        _Found(
            attribute=attribute,
            auroc=auroc,
            overall=float(inside.overall_C[used].mean()) if len(used) else np.nan,
            inside=float(inside.values_C[used].mean()) if len(used) else np.nan,
            change=change,
            labels=len(used),
        ),
        rows,
    )


def _sentence(models: Models, found: list[_Found], findings: float) -> str:
    most = max(found, key=lambda one: one.auroc[0])
    text = (
        f"The features discriminate {most.attribute.name} ({', '.join(most.attribute.values)}) with an "
        f"AUROC of {score(most.auroc[0])}, the findings by the same plain method with "
        f"{score(findings)} on average"
    )
    # The largest fall that is shown, or if none is, the change within what the features discriminate best.
    falls = [one for one in found if one.change[2] < 0]
    shown = min(falls, key=lambda one: one.change[0]) if falls else most
    if not np.isfinite(shown.change[0]):
        return text + "."
    verdict = "no fall is shown"
    if falls:
        verdict = f"a change of {signed(shown.change[0])} ({_signed_ends(shown.change)})"
    return (
        f"{text}; among images of one {shown.attribute.name} the macro AUROC of "
        f"{models.judgement.answer.name} is {score(shown.inside)} instead of "
        f"{score(shown.overall)}: {verdict}."
    )


def _table(models: Models, found: list[_Found], findings) -> Table:
    kind = base_kind(models.encoder.kinds).name
    rows = [
        Row(
            cells=[
                Cell(text=one.attribute.name, small=", ".join(one.attribute.values)),
                Cell(text=score(one.auroc[0]), small=_ends(one.auroc)),
                score(one.overall),
                score(one.inside),
                Cell(text=signed(one.change[0]) if one.labels else NONE, small=_signed_ends(one.change)),
                str(one.labels),
            ]
        )
        for one in found
    ]
    rows.append(
        Row(
            cells=[
                Cell(text="findings", small=f"plain logistic regression on the frozen {kind} features"),
                Cell.of_score(findings),
                *[""] * 4,
            ],
            kind="quiet",
            rule=True,
        )
    )
    columns = [
        "attribute",
        "AUROC of\nthe features",
        f"{models.judgement.answer.name}: macro\nAUROC of findings",
        "... within\none value",
        "change",
        "labels",
    ]
    return Table(columns=columns, rows=rows)


def _ends(values: tuple[float, float, float]) -> str:
    if not np.isfinite(values[1]):
        return ""
    return f"{score(values[1], 2)} to {score(values[2], 2)}"


def _signed_ends(values: tuple[float, float, float]) -> str:
    return f"{signed(values[1])} to {signed(values[2])}" if np.isfinite(values[1]) else ""
