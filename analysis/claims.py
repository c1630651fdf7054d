"""What a test split supports, label by label, in sentences that follow from written rules.

The rules (`rules`) stand in every report. They were fixed before any score was seen: the metric, the
opponents and the families of tests are those of `analysis.comparisons.compare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.number_format import OBJECTIVES, counted, p_text, ranged, signed
from analysis.predictors import (
    ALL_POSITIVE,
    LOGREG,
    LOGREG_DEEP,
    METADATA,
    PAPER,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    PUBLISHED,
    TEXT_INFORMED,
    ZERO_SHOT,
)
from scoring.intervals import MIN_PATIENTS

LEVEL = 0.05
"""Two rows are called different where the Holm-adjusted p-value is below this."""

MARGIN = 0.02
"""Two rows are called equivalent where the whole 95 % interval of their difference lies within this of 0; a
gain below it would change nobody's choice."""

UNDECIDED = "no difference shown from"

_NAMED = {
    PREVALENCE: "the training prevalence",
    ALL_POSITIVE: "every label for every image",
    PROMPTED: "zero-shot with prompts",
    ZERO_SHOT: "zero-shot",
    METADATA: "the kept columns alone",
    PIXELS: "raw pixels",
    TEXT_INFORMED: "text and class means in closed form",
    LOGREG: "plain logistic regression",
    LOGREG_DEEP: "plain logistic regression on deep features",
    PAPER: PUBLISHED,
}
_FLOORS = (
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
_CHANCE = (ALL_POSITIVE, PREVALENCE)
"""The opponent that knows nothing, one of these in a family; see `analysis.comparisons.compare`."""


def rules(objective: str) -> tuple[str, ...]:
    """The rules of a study with this objective, in sentences."""
    chance = "that its scores beat their own reverse there too"
    if objective == "macro_f1":
        chance = "better decisions than any that are the same for every image"
    few = f"fewer than {MIN_PATIENTS} positive patients"
    return (
        f"A label with {few} on test gets counts and no claim.",
        "“Above chance” means that the AUROC exceeds one half, tested against the model's own ranking "
        "reversed.",
        "“Better than” and “worse than” a floor mean that the two AUROCs differ in a paired permutation test "
        "over patients; everything else is “no difference shown”, which is not the same as equal.",
        f"The average is tested by {OBJECTIVES[objective]}, the objective of the study; “above chance” means "
        f"{chance}.",
        "All labels and opponents form one family, the average and its opponents another; p-values are "
        f"Holm-adjusted in each and count below {LEVEL:g}.",
        "The headline is the difference from the plain logistic regression, on projected or deep features, "
        "whichever scores better on validation. “Equivalent” means that the whole 95 % interval of the "
        f"difference lies within {MARGIN:g} of 0.",
        "Thresholds, strengths and the configuration itself were chosen on validation; the test split was "
        "used for nothing but these numbers.",
    )


@dataclass(frozen=True)
class Claim:
    """What may be said of one label, or of the average."""

    label: str
    """Empty for the average."""
    name: str
    """How the label is said to people; empty for the average."""
    verdict: Literal["none", "counts only", "not above chance", "below chance", "above chance"]
    """For the average "above chance" means better than what knows nothing, see `rules`."""
    score: str
    """The numbers it rests on, without a full stop."""
    finding: str
    """What follows from them, without a full stop."""
    better_than: tuple[str, ...] = ()
    """Opponents, by setting name, beaten with a Holm-adjusted p below LEVEL; chance is not among them."""
    worse_than: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    """Opponents of which no difference is shown, which is not the same as equal."""

    @property
    def silent(self) -> bool:
        """Whether the data are too few to say anything."""
        return self.verdict in ("none", "counts only")

    @property
    def brief(self) -> str:
        """The finding by setting names alone: `above chance; better than pixels; worse than logreg`."""
        parts = [self.verdict]
        for word, names in (
            ("better than", self.better_than),
            ("worse than", self.worse_than),
            (UNDECIDED, self.undecided),
        ):
            if names:
                parts.append(f"{word} {', '.join(names)}")
        return "; ".join(parts)

    @property
    def conclusion(self) -> str:
        """The finding as a sentence."""
        return f"{self.finding[0].upper()}{self.finding[1:]}."

    @property
    def sentence(self) -> str:
        if self.silent:
            return f"{self.name}: {self.score}; {self.finding}."
        return f"{self.name or 'Average'}: {self.score}. {self.conclusion}"


def label_claims(
    scores: pd.DataFrame, comparisons: pd.DataFrame, names: Mapping[str, str], best: str
) -> list[Claim]:
    """One claim a label about the setting `best`, in the order of `names`.

    Args:
        scores: `test_scores.csv`.
        comparisons: `comparisons.csv`.
        names: label -> how it is said to people, of every label.
    """
    own = scores[scores["setting"] == best].set_index(["metric", "label"])
    tests = comparisons[comparisons["family"] == "labels"]
    return [_label_claim(own, tests[tests["label"] == label], label, name) for label, name in names.items()]


def _label_claim(own: pd.DataFrame, tests: pd.DataFrame, label: str, name: str) -> Claim:
    auroc, ap = own.loc[("auroc", label)], own.loc[("average_precision", label)]
    positives, patients = int(auroc["positives"]), int(auroc["positive_patients"])
    if not np.isfinite(auroc["value"]):
        missing = "positive" if positives == 0 else "negative"
        return Claim(label, name, "none", f"no {missing} image on test", "nothing can be said")
    counts = f"{counted(positives, 'positive image')} of {counted(patients, 'patient')}"
    if patients < MIN_PATIENTS:
        return Claim(label, name, "counts only", f"{counts} on test", "counts only, no claim")
    score = f"AUROC {ranged(auroc)}, average precision {ranged(ap)}, on {counts}"
    return _claim(label, name, score, tests)


def average_claim(scores: pd.DataFrame, comparisons: pd.DataFrame, best: str, objective: str) -> Claim:
    """What may be said of `best` by the study's objective: macro_ap, macro_auroc or macro_f1."""
    row = scores[(scores["setting"] == best) & (scores["metric"] == objective)].iloc[0]
    score = f"{OBJECTIVES[objective]} {ranged(row)} over {counted(int(row['labels_averaged']), 'label')}"
    return _claim("", "", score, comparisons[comparisons["family"] == "average"])


def _claim(label: str, name: str, score: str, tests: pd.DataFrame) -> Claim:
    by_opponent = {row.second: row for row in tests.itertuples()}
    chance = by_opponent.pop(next(opponent for opponent in _CHANCE if opponent in by_opponent))
    verdict = "not above chance"
    if chance.p_holm < LEVEL:
        verdict = "above chance" if chance.difference > 0 else "below chance"
    different = {opponent: row.p_holm < LEVEL for opponent, row in by_opponent.items()}
    better = tuple(one for one, row in by_opponent.items() if different[one] and row.difference > 0)
    worse = tuple(one for one, row in by_opponent.items() if different[one] and row.difference < 0)
    undecided = tuple(one for one in by_opponent if not different[one])
    parts = [f"{verdict} (Holm-adjusted {p_text(chance.p_holm)})"]
    for word, opponents in (("better than", better), ("worse than", worse), (UNDECIDED, undecided)):
        if opponents:
            parts.append(f"{word} " + _listed([_against(by_opponent[one]) for one in opponents]))
    return Claim(label, name, verdict, score, "; ".join(parts), better, worse, undecided)


def claimed(claims: Sequence[Claim]) -> list[Claim]:
    """The average first, then the labels of which something can be said."""
    average = [claim for claim in claims if not claim.label]
    return average + [claim for claim in claims if claim.label and not claim.silent]


def unclaimed(claims: Sequence[Claim]) -> str:
    """`Fracture (2 positive images of 1 patient), ...`: the labels of too few data; empty where there are
    none."""
    return ", ".join(
        f"{claim.name} ({claim.score.removesuffix(' on test')})" for claim in claims if claim.silent
    )


def headline(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    best: str,
    objective: str,
    *,
    who: str,
    plain: str,
    images: int,
    patients: int,
) -> str:
    """What the row `best` reaches, how it differs from the plain method, and the strongest floor where that
    is another.

    Args:
        objective: macro_ap, macro_auroc or macro_f1.
        who: what `best` is, as the subject of a sentence.
        plain: the row of the plain logistic regression that is the better on validation.
        images, patients: of the test split.
    """
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    metrics = ["macro_auroc", "macro_ap"]
    if objective not in metrics:
        metrics.insert(0, objective)
    reached = _listed([f"{OBJECTIVES[metric]} {ranged(averages.loc[(best, metric)])}" for metric in metrics])
    labels = int(averages.loc[(best, objective)]["labels_averaged"])
    sentences = [
        f"{who} reaches {reached} over {counted(labels, 'label')} on {counted(images, 'test image')} of "
        f"{counted(patients, 'patient')}."
    ]
    tests = comparisons[comparisons["family"] == "average"].set_index("second")
    present = set(averages.index.get_level_values("setting"))
    floors = [name for name in _FLOORS if name in present]
    strongest = max(floors, key=lambda name: averages.loc[(name, objective)]["value"])
    if plain in tests.index:
        sentences.append(f"Against {_NAMED[plain]}: {_difference(tests.loc[plain], OBJECTIVES[objective])}.")
    if strongest != plain:
        floor = (
            f"The strongest floor, {_NAMED[strongest]}, has {ranged(averages.loc[(strongest, objective)])}"
        )
        if strongest in tests.index:
            floor += f": {_difference(tests.loc[strongest], OBJECTIVES[objective])}"
        sentences.append(f"{floor}.")
    return " ".join(sentences)


def _difference(test: pd.Series, objective: str) -> str:
    """`macro AP +0.041 (+0.012 to +0.070), Holm-adjusted p = 0.01, better`."""
    low, high = test["low"], test["high"]
    if test["p_holm"] < LEVEL:
        verdict = "better" if test["difference"] > 0 else "worse"
        if low < 0 < high:
            verdict += " by the permutation test, though the interval, wide for few patients, reaches over 0"
    elif -MARGIN < low and high < MARGIN:
        verdict = f"equivalent within {MARGIN:g}"
    else:
        verdict = f"neither a difference nor equivalence within {MARGIN:g} is shown"
    interval = f" ({signed(low)} to {signed(high)})" if np.isfinite([low, high]).all() else ""
    adjusted = f"Holm-adjusted {p_text(test['p_holm'])}"
    return f"{objective} {signed(test['difference'])}{interval}, {adjusted}, {verdict}"


def _against(row) -> str:
    name = _NAMED.get(row.second, f"the study {row.second}")
    return f"{name} ({signed(row.difference)}, adjusted {p_text(row.p_holm)})"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
