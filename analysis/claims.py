"""What a test split supports, label by label, in sentences that follow from written rules.

The rules (`RULES`) stand in every report. They were fixed before any score was seen: the metric, the
opponents and the family of tests are those of `analysis.scores.compare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.settings import LOGREG, PAPER, PIXELS, PREVALENCE, PROMPTED, ZERO_SHOT
from analysis.statistics import MIN_POSITIVE_PATIENTS

LEVEL = 0.05
"""A Holm-adjusted p-value below this counts as told apart."""

RULES = (
    f"A label with fewer than {MIN_POSITIVE_PATIENTS} positive patients on test gets counts and no claim.",
    "“Above chance” means that the AUROC exceeds one half, tested against the model's own ranking reversed.",
    "“Better than” and “worse than” a floor mean that the two AUROCs differ in a paired permutation test "
    "over patients; everything else is “not told apart”, which is not the same as equal.",
    f"All labels and opponents form one family; p-values are Holm-adjusted in it and count below {LEVEL:g}.",
    "Thresholds, strengths and the configuration itself were chosen on validation; the test split was used "
    "for nothing but these numbers.",
)

_NAMED = {
    ZERO_SHOT: "zero-shot",
    PIXELS: "raw pixels",
    LOGREG: "plain logistic regression",
    PAPER: "the paper's configuration",
}


@dataclass(frozen=True)
class Claim:
    """What may be said of one label, or of the average."""

    label: str
    """Empty for the average."""
    verdict: Literal[
        "none", "counts only", "not above chance", "below chance", "above chance", "better", "worse"
    ]
    """The strongest statement: `better` and `worse` name opponents in `better_than` and `worse_than`."""
    sentence: str
    better_than: tuple[str, ...] = ()
    """Opponents, by setting name, beaten with a Holm-adjusted p below LEVEL; chance is not among them."""
    worse_than: tuple[str, ...] = ()
    not_told_apart: tuple[str, ...] = ()


def label_claims(
    scores: pd.DataFrame, comparisons: pd.DataFrame, labels: Sequence[str], best: str
) -> list[Claim]:
    """One claim a label about the setting `best`, in the order of `labels`.

    Args:
        scores: `test_scores.csv`.
        comparisons: `comparisons.csv`.
    """
    own = scores[scores["setting"] == best].set_index(["metric", "label"])
    return [
        _label_claim(
            own, comparisons[(comparisons["family"] == "labels") & (comparisons["label"] == label)], label
        )
        for label in labels
    ]


def _label_claim(own: pd.DataFrame, tests: pd.DataFrame, label: str) -> Claim:
    auroc, ap = own.loc[("auroc", label)], own.loc[("average_precision", label)]
    positives, patients = int(auroc["positives"]), int(auroc["positive_patients"])
    if positives == 0:
        return Claim(label, "none", f"{label}: no positive image on test; nothing can be said.")
    if not np.isfinite(auroc["value"]):
        return Claim(label, "none", f"{label}: no negative image on test; nothing can be said.")
    counts = f"{_count(positives, 'positive image')} of {_count(patients, 'patient')}"
    if patients < MIN_POSITIVE_PATIENTS:
        return Claim(label, "counts only", f"{label}: {counts} on test; counts only, no claim.")

    score = f"{label}: AUROC {ranged(auroc)} and average precision {ranged(ap)} on {counts}."
    by_opponent = {row.second: row for row in tests.itertuples()}
    chance = by_opponent.pop(PREVALENCE)
    above = chance.p_holm < LEVEL and chance.difference > 0
    below = chance.p_holm < LEVEL and chance.difference < 0
    better, worse, level = _sorted_out(by_opponent)
    verdict = "above chance" if above else "below chance" if below else "not above chance"
    parts = [f"{verdict[0].upper()}{verdict[1:]} ({_p(chance.p_holm)})"]
    parts += _compared(by_opponent, better, worse, level)
    if above:
        verdict = "better" if better else "worse" if worse else verdict
    return Claim(label, verdict, f"{score} {'; '.join(parts)}.", better, worse, level)


def average_claim(scores: pd.DataFrame, comparisons: pd.DataFrame, best: str) -> Claim:
    """What may be said of the macro average precision of `best`."""
    row = scores[(scores["setting"] == best) & (scores["metric"] == "macro_ap")].iloc[0]
    tests = comparisons[comparisons["family"] == "average"]
    by_opponent = {test.second: test for test in tests.itertuples()}
    better, worse, level = _sorted_out(by_opponent)
    parts = _compared(by_opponent, better, worse, level)
    sentence = f"Macro average precision over {_count(int(row['labels_averaged']), 'label')}: {ranged(row)}"
    text = "; ".join(parts)
    verdict = "better" if better else "worse" if worse else "not above chance"
    return Claim(
        "",
        verdict,
        f"{sentence}. {text[0].upper()}{text[1:]}." if parts else f"{sentence}.",
        better,
        worse,
        level,
    )


def headline(scores: pd.DataFrame, comparisons: pd.DataFrame, best: str, images: int, patients: int) -> str:
    """One sentence: the best configuration's macro AUROC and average precision, and the strongest floor."""
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    auroc, ap = averages.loc[(best, "macro_auroc")], averages.loc[(best, "macro_ap")]
    start = (
        f"The configuration chosen on validation reaches macro AUROC {ranged(auroc)} and macro average "
        f"precision {ranged(ap)} over {_count(int(ap['labels_averaged']), 'label')} on "
        f"{_count(images, 'test image')} of {_count(patients, 'patient')}"
    )
    present = set(averages.index.get_level_values("setting"))
    floors = [name for name in (PREVALENCE, ZERO_SHOT, PROMPTED, PIXELS, LOGREG) if name in present]
    strongest = max(floors, key=lambda name: averages.loc[(name, "macro_ap")]["value"])
    floor = averages.loc[(strongest, "macro_ap")]
    named = _NAMED.get(
        strongest, "the training prevalence" if strongest == PREVALENCE else "prompted zero-shot"
    )
    end = f"the strongest floor, {named}, has macro average precision {ranged(floor)}"
    tests = comparisons[(comparisons["family"] == "average") & (comparisons["second"] == strongest)]
    if len(tests):
        test = tests.iloc[0]
        told = "told apart" if test["p_holm"] < LEVEL else "not told apart"
        end += f" ({told}: difference {test['difference']:+.3f}, {_p(test['p_holm'])})"
    return f"{start}; {end}."


def ranged(row: pd.Series) -> str:
    """`0.731 (0.66 to 0.79)`, or the value alone where there is no interval."""
    if not np.isfinite(row["low"]):
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} ({row['low']:.2f} to {row['high']:.2f})"


def _sorted_out(by_opponent: dict) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    told = {name: row.p_holm < LEVEL for name, row in by_opponent.items()}
    better = tuple(name for name, row in by_opponent.items() if told[name] and row.difference > 0)
    worse = tuple(name for name, row in by_opponent.items() if told[name] and row.difference < 0)
    return better, worse, tuple(name for name in by_opponent if not told[name])


def _compared(
    by_opponent: dict, better: Sequence[str], worse: Sequence[str], level: Sequence[str]
) -> list[str]:
    return [
        f"{word} " + _listed([_against(by_opponent[name]) for name in names])
        for word, names in (("better than", better), ("worse than", worse), ("not told apart from", level))
        if names
    ]


def _against(row) -> str:
    named = _NAMED.get(row.second, "the training prevalence")
    return f"{named} ({row.difference:+.3f}, {_p(row.p_holm)})"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"
