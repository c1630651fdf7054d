"""The paired tests of the best configuration against its opponents."""

import pytest

from analysis.evidence import OPPONENTS
from analysis.predictors import PREVALENCE


def test_the_best_is_compared_with_every_opponent_in_two_families(analysed):
    table = analysed.result.comparisons
    assert set(table["first"]) == {"best-1"}
    assert list(table.loc[table["family"] == "average", "second"]) == list(OPPONENTS)
    labels = table[table["family"] == "labels"]
    counted = analysed.result.scores.query("setting == 'best-1' and metric == 'auroc'")
    claimable = counted[(counted["positive_patients"] >= 10) & ~counted["label"].str.startswith("domain:")][
        "label"
    ]
    assert set(labels["label"]) == set(claimable)
    assert len(labels) == len(claimable) * len(OPPONENTS)
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
