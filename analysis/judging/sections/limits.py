"""What the numbers do not show."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.judging.claims import Claim
from analysis.judging.judgement import Judgement
from analysis.section import Section, Words
from cohort.labels import CHEXPERT_14, NIH_14
from cohort.manifest import Cohort
from trainables.baselines import ZERO_SHOT

TITLE = "Limits of this judgement"


def run(judgement: Judgement) -> Section:
    limits = limits_of(judgement.cohort, judgement.claims)
    if judgement.has(ZERO_SHOT) and (codes := _codes(judgement.cohort)):
        limits.append(
            f"Zero-shot rests on labels that look like codes to a text tower: {', '.join(codes)}. Give them "
            "names when the cohort is built (--label-names) before a model is called better than zero-shot."
        )
    return Section(parts=[Words(lines=limits)])


def _codes(cohort: Cohort) -> list[str]:
    """Labels without a display name that are at most four characters long or have no vowel; those of the
    vocabularies of chest radiographs are words all the same."""
    return [
        label
        for label in cohort.labels
        if label not in cohort.label_names
        and label not in CHEXPERT_14 + NIH_14
        and (len(label) <= 4 or not set("aeiouy") & set(label.lower()))
    ]


def limits_of(cohort: Cohort, claims: Sequence[Claim]) -> list[str]:
    """What the numbers do not show, in sentences."""
    silent = [claim.name for claim in claims if claim.label and claim.silent]
    limits = [
        "One cohort and one test split. The intervals say how far other patients of the same source would "
        "move these numbers for this very model; they do not cover another hospital, another labeller, or "
        "training again.",
        "The intervals let the prevalence vary as it does among other patients of the same source, and no "
        "further. Precision, F1 and average precision are lower where a finding is rarer.",
        "Average precision is too high on average for a label with few positives; this affects all rows of a "
        "table alike, so compare rows rather than cohorts.",
        "The interval of a difference between two rows is too short where the difference comes of very few "
        "patients who change all; no claim of equivalence rests on it.",
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
