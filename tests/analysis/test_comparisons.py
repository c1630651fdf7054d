"""The paired tests of the best configuration against its opponents."""

from dataclasses import replace

import pytest

from analysis.evidence import OPPONENTS
from analysis.predictors import LOGREG_DEEP, PREVALENCE
from analysis.terminal import summary

PRESENT = [name for name in OPPONENTS if name != LOGREG_DEEP]
"""Of an encoder without deep features."""


def test_the_best_is_compared_with_every_opponent_in_two_families(analysed):
    table = analysed.result.comparisons
    assert set(table["first"]) == {"best-1"}
    assert list(table.loc[table["family"] == "average", "second"]) == PRESENT
    labels = table[table["family"] == "labels"]
    counted = analysed.result.scores.query("setting == 'best-1' and metric == 'auroc'")
    claimable = counted[(counted["positive_patients"] >= 10) & ~counted["label"].str.startswith("domain:")][
        "label"
    ]
    assert set(labels["label"]) == set(claimable)
    assert len(labels) == len(claimable) * len(PRESENT)
    assert (table["p_holm"] >= table["p"]).all()


def test_a_difference_is_that_of_the_two_rows_of_the_score_table(analysed, scores):
    row = analysed.result.comparisons.query("family == 'average' and second == 'pixels'").iloc[0]
    first, second = (scores.loc[(name, "macro_ap", ""), "value"] for name in ("best-1", "pixels"))
    assert row["difference"] == pytest.approx(first - second)
    assert row["low"] < row["difference"] < row["high"]


def test_a_strong_label_is_above_chance_and_noise_is_not(analysed, uninformed):
    table = analysed.result.comparisons
    chance = table[(table["family"] == "labels") & (table["second"] == PREVALENCE)]
    strongest = chance.loc[chance["difference"].idxmax()]
    assert strongest["p_holm"] < 0.05
    chance = uninformed.result.comparisons.query("family == 'average' and second == 'prevalence'").iloc[0]
    assert chance["p_holm"] > 0.05
    assert (
        next(claim for claim in uninformed.result.claims if claim.label == "").verdict == "not above chance"
    )


@pytest.mark.parametrize("objective", ["macro_auroc", "macro_f1"])
def test_the_average_is_tested_by_the_studys_objective(analysed, scores, objective):
    facts = replace(analysed.evidence.study, objective=objective, bootstrap=200)
    evidence = replace(analysed.evidence, study=facts)
    average = evidence.comparisons.query("family == 'average'").set_index("second")
    assert set(average["metric"]) == {objective}
    chance = "all-positive" if objective == "macro_f1" else "prevalence"
    assert list(average.index) == [chance, *PRESENT[1:]]
    for name, row in average.iterrows():
        first, second = (scores.loc[(one, objective, ""), "value"] for one in ("best-1", name))
        assert row["difference"] == pytest.approx(first - second)
        assert row["low"] < row["difference"] < row["high"]
    named = {"macro_auroc": "macro AUROC", "macro_f1": "macro F1"}[objective]
    assert evidence.claims[-1].sentence.startswith(f"Average: {named} ")
    assert "The strongest floor, zero-shot, has " in evidence.headline
    assert f"Against plain logistic regression: {named} " in evidence.headline
    assert f"what may be claimed of best-1 ({named}; AUROC of a label)" in summary(evidence)


def test_the_published_configuration_is_not_compared_with_itself(published_best):
    by_decisions = replace(published_best, study=replace(published_best.study, objective="macro_f1"))
    for evidence in (published_best, by_decisions):
        assert "paper" not in set(evidence.comparisons["second"])
    assert all("published configuration" not in claim.sentence for claim in published_best.claims)
    assert "the published configuration itself (Sadman et al. 2025, arXiv 25" in published_best.headline
    assert "best-1 is the published configuration itself" in summary(published_best)
