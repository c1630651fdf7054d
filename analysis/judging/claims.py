"""What a test split supports, label by label, in sentences that follow from written rules.

The rules (`rules`) stand in every report. They were fixed before any score was seen: the metric, the
opponents and the families of tests are those of `analysis.judging.comparisons.compare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.judging.evaluation_set import SplitCounts
from analysis.number_format import counted, p_text, ranged, signed
from analysis.number_format import score as number
from scoring.intervals import MIN_PATIENTS
from scoring.objectives import OBJECTIVES
from trainables.baselines import (
    ALL_POSITIVE,
    LOGREG,
    LOGREG_DEEP,
    METADATA,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    TEXT_INFORMED,
    ZERO_SHOT,
)

LEVEL = 0.05
"""Two rows are called different where the Holm-adjusted p-value is below this."""

MARGIN = 0.02
"""Two rows are called equivalent where a larger difference in either direction is ruled out, see
`scoring.difference_intervals`; a gain below it would change nobody's choice."""

UNDECIDED = "no difference shown from"

_NAMED = {
    PREVALENCE: "the training prevalence",
    ALL_POSITIVE: "all-positive decisions",
    PROMPTED: "zero-shot with prompts",
    ZERO_SHOT: "zero-shot",
    METADATA: "the kept columns alone",
    PIXELS: "raw pixels",
    TEXT_INFORMED: "text and class means in closed form",
    LOGREG: "plain logistic regression",
    LOGREG_DEEP: "plain logistic regression on deep features",
}
"""Id of a baseline -> what it is called in a sentence; all but the random one."""
_CHANCE = (ALL_POSITIVE, PREVALENCE)
"""The opponent that knows nothing, one of these in a family; see `analysis.judging.comparisons.compare`."""


def rules(objective: str) -> tuple[str, ...]:
    """The rules of a study with this objective, in sentences."""
    chance = (
        "better than the same score for every image, tested as above, and no macro AUROC at or below one half"
    )
    if objective == "macro_f1":
        chance = "better decisions than any that are the same for every image"
    few = f"fewer than {MIN_PATIENTS} patients"
    return (
        f"A label with {few} on its smaller side on test, those who have it or those who have it not, gets "
        f"counts and no claim; nor does an average get one with {few} on the smaller sides of all its labels "
        "together.",
        "“Above chance” means that the AUROC exceeds one half, tested against rankings in which those of a "
        "random half of the patients are reversed.",
        "“Better than” and “worse than” a baseline mean that the two AUROCs differ in a paired permutation "
        "test over patients; everything else is “no difference shown”, which is not the same as equal.",
        f"The average is tested by {OBJECTIVES[objective].title}, the objective of the study; “above chance” "
        f"means {chance}.",
        "Decisions are “not shown better than all-positive” where their F1 does not exceed, in a paired "
        "permutation test, that of deciding for the label on every image.",
        "All labels and opponents form one family, the average and its opponents another, the decisions a "
        f"third; p-values are Holm-adjusted in each and count below {LEVEL:g}.",
        "The headline is the difference from the plain logistic regression, on projected or deep features, "
        f"whichever scores better on validation. “Equivalent” means that a difference of {MARGIN:g} or more "
        "in either direction is ruled out at 2.5 %, the most that one patient can move the score reckoned "
        "with, so that few patients on whom two models agree do not make them equivalent.",
        "Thresholds, strengths and the configuration itself were chosen on validation.",
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
    idle_decisions: bool = False
    """Whether the decisions are not shown to be better than all-positive ones, see `rules`."""

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
        if self.idle_decisions:
            parts.append("decisions not shown better than all-positive")
        return "; ".join(parts)

    @property
    def conclusion(self) -> str:
        """The finding as a sentence."""
        return f"{self.finding[0].upper()}{self.finding[1:]}."

    @property
    def sentence(self) -> str:
        if self.silent:
            return f"{self.name or 'Average'}: {self.score}; {self.finding}."
        return f"{self.name or 'Average'}: {self.score}. {self.conclusion}"


@dataclass(frozen=True)
class Said:
    """How rows are called, by their ids."""

    names: Mapping[str, str]
    """As tables have it."""
    phrases: Mapping[str, str]
    """In a sentence, of rows that are no baselines."""

    def phrase(self, id: str) -> str:
        return self.phrases.get(id) or _NAMED.get(id) or self.names[id]


def label_claims(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    names: Mapping[str, str],
    best: str,
    test: SplitCounts,
    said: Said,
) -> list[Claim]:
    """One claim a label about the row `best`, in the order of `names`.

    Args:
        scores: `Judgement.scores`.
        comparisons: `Judgement.comparisons`.
        names: label -> how it is said to people, of every label in the cohort's order.
        best: the id of its row.
        test: the counts of the test split.
        said: how other rows are called.
    """
    own = scores[scores["setting"] == best].set_index(["metric", "label"])
    found = []
    for c, (label, name) in enumerate(names.items()):
        tests = comparisons[comparisons["label"] == label].groupby("family")
        by_family = {family: members.set_index("second") for family, members in tests}
        found.append(_label_claim(own, by_family, label, name, test, c, said))
    return found


def _label_claim(
    own: pd.DataFrame,
    tests: Mapping[str, pd.DataFrame],
    label: str,
    name: str,
    test: SplitCounts,
    c: int,
    said: Said,
) -> Claim:
    positive, negative = test.patients_C[c], test.negative_patients_C[c]
    if not (positive and negative):
        missing = "negative" if positive else "positive"
        return Claim(label, name, "none", f"no {missing} image on test", "nothing can be said")
    counts = f"{counted(test.positives_C[c], 'positive image')} of {counted(positive, 'patient')}"
    if negative < positive:
        counts += f", {counted(negative, 'patient')} with a negative one"
    if min(positive, negative) < MIN_PATIENTS:
        return Claim(label, name, "counts only", f"{counts} on test", "counts only, no claim")
    score, ap = (ranged(own.loc[(metric, label)]) for metric in ("auroc", "average_precision"))
    claim = _claim(label, name, f"AUROC {score}, average precision {ap}, on {counts}", tests["labels"], said)
    (decisions,) = tests["decisions"].itertuples()
    if beaten(decisions):
        return claim
    f1 = own.loc[("f1", label), "value"]
    baseline = f"all-positive ({number(f1 - decisions.difference)})"
    idle = f"decisions (F1 {number(f1)}) not shown better than {baseline}"
    return replace(claim, finding=f"{claim.finding}; {idle}", idle_decisions=True)


def beaten(test: Any) -> bool:
    """Whether the first of two settings is shown to be the better one, by a row of `comparisons.csv`."""
    return bool(test.p_holm < LEVEL and test.difference > 0)


def average_claim(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    names: Mapping[str, str],
    best: str,
    objective: str,
    said: Said,
) -> Claim:
    """What may be said of `best` by the study's objective; other arguments
    as of `label_claims`."""
    own = scores[(scores["setting"] == best) & (scores["label"] == "")].set_index("metric")
    row = own.loc[objective]
    tests = comparisons[comparisons["family"] == "average"].set_index("second")
    over = averaged_over(int(row["labels_averaged"]), tests.iloc[0], names)
    score = f"{OBJECTIVES[objective].title} {ranged(row)} over {over}"
    patients = int(tests["patients"].iloc[0])
    if patients < MIN_PATIENTS:
        few = f"{score}, {counted(patients, 'patient')} on their smaller sides together"
        return Claim("", "", "counts only", few, "too few for a claim")
    if objective == "macro_f1":
        # All-positive decisions know nothing, but an F1 below theirs is no worse than chance.
        return _claim("", "", score, tests, said, below=False)
    return _claim("", "", score, tests, said, above=own.loc["macro_auroc"]["value"] > 0.5)


def averaged_over(labels: int, test: pd.Series, names: Mapping[str, str]) -> str:
    """`13 labels (10 of them with fewer than 10 patients on the smaller side, Hernia with 2)`.

    Args:
        labels: that are averaged.
        test: a row of the family `average` of `comparisons.csv`.
        names: label -> how it is said to people.
    """
    over, rare = counted(labels, "label"), int(test["rare_labels"])
    if not rare:
        return over
    rarest, fewest = names[test["rarest"]], int(test["rarest_patients"])
    if labels == 1:
        return f"{over} ({rarest}, with {counted(fewest, 'patient')} on the smaller side)"
    which = "all" if rare == labels else f"{rare} of them"
    few = f"fewer than {MIN_PATIENTS} patients on the smaller side"
    return f"{over} ({which} with {few}, {rarest} with {fewest})"


def _claim(
    label: str,
    name: str,
    score: str,
    tests: pd.DataFrame,
    said: Said,
    *,
    above: bool = True,
    below: bool = True,
) -> Claim:
    """`tests` by opponent; `above` and `below` chance can be said, or not, whatever the test says."""
    by_opponent = {row.Index: row for row in tests.itertuples()}
    chance = by_opponent.pop(next(opponent for opponent in _CHANCE if opponent in by_opponent))
    verdict = "not above chance"
    if beaten(chance) and above:
        verdict = "above chance"
    elif chance.p_holm < LEVEL and chance.difference < 0 and below:
        verdict = "below chance"
    different = {opponent: row.p_holm < LEVEL for opponent, row in by_opponent.items()}
    better = tuple(one for one, row in by_opponent.items() if different[one] and row.difference > 0)
    worse = tuple(one for one, row in by_opponent.items() if different[one] and row.difference < 0)
    undecided = tuple(one for one in by_opponent if not different[one])
    parts = [f"{verdict} (Holm-adjusted {p_text(chance.p_holm)})"]
    for word, opponents in (("better than", better), ("worse than", worse), (UNDECIDED, undecided)):
        if opponents:
            parts.append(f"{word} " + _listed([_against(by_opponent[one], said) for one in opponents]))
    shown = (tuple(said.names[one] for one in opponents) for opponents in (better, worse, undecided))
    return Claim(label, name, verdict, score, "; ".join(parts), *shown)


def claimed(claims: Sequence[Claim]) -> list[Claim]:
    """The average first, then the labels of which something can be said."""
    average = [claim for claim in claims if not claim.label]
    return average + [claim for claim in claims if claim.label and not claim.silent]


def unclaimed(claims: Sequence[Claim]) -> str:
    """`Fracture (2 positive images of 1 patient), ...`: the labels of too few data; empty where there are
    none."""
    return ", ".join(
        f"{claim.name} ({claim.score.removesuffix(' on test')})"
        for claim in claims
        if claim.label and claim.silent
    )


def headline(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    best: str,
    objective: str,
    *,
    who: str,
    plain: str,
    names: Mapping[str, str],
    test: SplitCounts,
) -> str:
    """What the row of the id `best` reaches, how it differs from the plain method, and the strongest
    baseline where that is another.

    Args:
        objective: one of `scoring.objectives.OBJECTIVES`.
        who: what `best` is, as the subject of a sentence.
        plain: the row of the plain logistic regression that is the better on validation.
        names: label -> how it is said to people.
        test: the counts of the test split.
    """
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    metrics = ["macro_auroc", "macro_ap"]
    if objective not in metrics:
        metrics.insert(0, objective)
    reached = _listed(
        [f"{OBJECTIVES[metric].title} {ranged(averages.loc[(best, metric)])}" for metric in metrics]
    )
    tests = comparisons[comparisons["family"] == "average"].set_index("second")
    over = averaged_over(int(averages.loc[(best, objective)]["labels_averaged"]), tests.iloc[0], names)
    sentences = [
        f"{who} reaches {reached} over {over} on {counted(test.scored_images, 'test image')} of "
        f"{counted(test.scored_patients, 'patient')}."
    ]
    present = set(averages.index.get_level_values("setting"))
    baselines = [id for id in _NAMED if id in present]
    strongest = max(baselines, key=lambda id: averages.loc[(id, objective)]["value"])

    def said(opponent: str) -> str:
        return _difference(tests.loc[opponent], OBJECTIVES[objective].title, test.scored_patients)

    if plain in tests.index:
        sentences.append(f"Against {_NAMED[plain]}: {said(plain)}.")
    if strongest != plain:
        sentence = (
            f"The strongest baseline, {_NAMED[strongest]}, has {ranged(averages.loc[(strongest, objective)])}"
        )
        if strongest in tests.index:
            sentence += f": {said(strongest)}"
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def _difference(test: pd.Series, objective: str, patients: int) -> str:
    """`macro AP +0.041 (+0.012 to +0.070), Holm-adjusted p = 0.01, better`; `patients` are all on test."""
    low, high = test["low"], test["high"]
    found = f"{objective} {signed(test['difference'])}"
    if test["patients"] < MIN_PATIENTS:
        return f"{found}, on too few patients for a claim"
    if test["p_holm"] < LEVEL:
        verdict = "better" if test["difference"] > 0 else "worse"
        if low < 0 < high:
            verdict += " by the permutation test, though the interval, wide for few patients, reaches over 0"
    elif test["within"] < MARGIN:
        verdict = f"equivalent within {MARGIN:g}"
    else:
        verdict = f"neither a difference nor equivalence within {MARGIN:g} is shown"
        if test["needed"] > patients:
            verdict += (
                f" (equivalence takes at least {counted(int(test['needed']), 'test patient')} like these)"
            )
    interval = f" ({signed(low)} to {signed(high)})" if np.isfinite([low, high]).all() else ""
    return f"{found}{interval}, Holm-adjusted {p_text(test['p_holm'])}, {verdict}"


def _against(row: Any, said: Said) -> str:
    return f"{said.phrase(row.Index)} ({signed(row.difference)}, adjusted {p_text(row.p_holm)})"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
