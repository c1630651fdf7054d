"""The paired tests of the best configuration against its opponents."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from analysis.judging.comparisons import compare
from analysis.judging.evaluation_set import EvaluationSet
from analysis.judging.judgement import OPPONENTS
from analysis.terminal import summary
from scoring.model_output import ModelOutput, Resampled
from scoring.resampling import patient_weights
from tests.analysis.synthetic import targets_of
from trainables.baselines import LOGREG_DEEP, PREVALENCE
from trainables.baselines.base import name_of

PRESENT = [*(name_of(id) for id in OPPONENTS if id != LOGREG_DEEP), "paper"]
"""Of an encoder without deep features."""


def test_the_best_is_compared_with_every_opponent_in_families_by_their_smaller_side(analysed):
    table = analysed.result.comparisons
    assert set(table["first"]) == {"best-1"}
    assert list(table.loc[table["family"] == "average", "second"]) == PRESENT
    labels = table[table["family"] == "labels"]
    split = analysed.judgement.split
    claimable = {split.labels[c] for c in np.flatnonzero(split.fewer_patients_C >= 10)}
    assert set(labels["label"]) == claimable
    assert len(labels) == len(claimable) * len(PRESENT)
    decisions = table[table["family"] == "decisions"]
    assert set(decisions["second"]) == {"all-positive"} and set(decisions["label"]) == claimable
    assert (table["p_holm"] >= table["p"]).all()


def test_a_difference_is_that_of_the_two_rows_of_the_score_table(analysed, scores):
    row = analysed.result.comparisons.query("family == 'average' and second == 'pixels'").iloc[0]
    first, second = (scores.loc[(name, "macro_ap", ""), "value"] for name in ("best-1", "pixels"))
    assert row["difference"] == pytest.approx(first - second)
    assert row["low"] < row["difference"] < row["high"]


def test_a_strong_label_is_above_chance_and_noise_is_not(analysed, uninformed):
    table = analysed.result.comparisons
    chance = table[(table["family"] == "labels") & (table["second_row"] == PREVALENCE)]
    strongest = chance.loc[chance["difference"].idxmax()]
    assert strongest["p_holm"] < 0.05
    chance = uninformed.result.comparisons.query("family == 'average' and second == 'prevalence'").iloc[0]
    assert chance["p_holm"] > 0.05
    assert (
        next(claim for claim in uninformed.result.claims if claim.label == "").verdict == "not above chance"
    )


@pytest.mark.parametrize("objective", ["macro_auroc", "macro_f1"])
def test_the_average_is_tested_by_the_studys_objective(analysed, scores, objective):
    facts = replace(analysed.judgement.study, objective=objective, bootstrap=200, permutations=200)
    judgement = replace(analysed.judgement, study=facts)
    average = judgement.shown(judgement.comparisons).query("family == 'average'").set_index("second")
    assert set(average["metric"]) == {objective}
    chance = "all-positive" if objective == "macro_f1" else "prevalence"
    assert list(average.index) == [chance, *PRESENT[1:]]
    for name, row in average.iterrows():
        first, second = (scores.loc[(one, objective, ""), "value"] for one in ("best-1", name))
        assert row["difference"] == pytest.approx(first - second)
        assert row["low"] < row["difference"] < row["high"]
    named = {"macro_auroc": "macro AUROC", "macro_f1": "macro F1"}[objective]
    assert judgement.claims[-1].sentence.startswith(f"Average: {named} ")
    assert "The strongest baseline, zero-shot, has " in judgement.headline
    assert f"Against plain logistic regression: {named} " in judgement.headline
    assert f"what may be claimed of best-1 ({named}; AUROC of a label)" in summary(judgement)


def test_decisions_are_held_against_the_label_for_every_image(analysed, scores):
    table = analysed.result.comparisons.query("family == 'decisions'").set_index("label")
    targets_NC = targets_of(analysed.study)
    for label, row in table.iterrows():
        target_N = targets_NC[:, analysed.study.cohort.labels.index(label)]
        baseline = f1_score(target_N, np.ones(len(target_N)))
        assert row["difference"] == pytest.approx(scores.loc[("best-1", "f1", label), "value"] - baseline)
        claim = next(claim for claim in analysed.result.claims if claim.label == label)
        assert claim.idle_decisions == (not (row["difference"] > 0 and row["p_holm"] < 0.05))


def test_decisions_that_flag_all_but_one_healthy_image_do_not_beat_flagging_all():
    """155 of 155 positive images found, 28 of 29 negative ones flagged too: F1 0.917, 0.914 of all."""
    targets_NC = np.repeat([1.0, 0.0], [155, 29])[:, None]
    decided_NC = np.ones((184, 1), dtype=bool)
    decided_NC[-1] = False
    table = compared(targets_NC, decided_NC.astype(float), decided_NC, np.arange(184))
    (row,) = table[table["family"] == "decisions"].itertuples()
    assert row.difference == pytest.approx(0.0027, abs=1e-4) and row.p_holm > 0.05


def test_the_interval_of_decisions_is_that_of_the_difference_and_not_of_their_f1():
    """By hand: decisions that are all positive differ from themselves in no resample, which leaves the
    lower bound of 29 patients, t(28) / 31."""
    targets_NC = np.repeat([1.0, 0.0], [155, 29])[:, None]
    everything_NC = np.ones((184, 1), dtype=bool)
    table = compared(targets_NC, targets_NC, everything_NC, np.arange(184))
    (row,) = table[table["family"] == "decisions"].itertuples()
    assert (row.low, row.high) == pytest.approx((-2.048 / 31, 2.048 / 31), abs=1e-4)


def test_complementary_labels_get_the_same_comparisons():
    rng = np.random.default_rng(0)
    patients_N = np.repeat(np.arange(113), 2)
    present_N = (patients_N < 90).astype(float)
    score_N = rng.normal(size=226) + 1.5 * present_N
    both = [np.stack([one, -one], axis=1) for one in (score_N, rng.normal(size=226))]
    targets_NC = np.stack([present_N, 1 - present_N], axis=1)
    table = compared(targets_NC, both[0], both[0] > 0, patients_N, second_NC=both[1])
    labels = table[table["family"] == "labels"]
    assert len(labels) == 2 and set(labels["patients"]) == {23}
    one, other = labels[["difference", "low", "high", "within", "needed", "p", "p_holm"]].to_numpy()
    np.testing.assert_allclose(one, other, atol=1e-5)
    # The average of the two rests on the patients of one.
    (average,) = table[table["family"] == "average"].itertuples()
    assert average.patients == 23


def test_nine_patients_on_the_smaller_side_make_no_label_and_no_average_testable():
    targets_NC = np.repeat([1.0, 0.0], [39, 9])[:, None]
    targets_NC = np.hstack([targets_NC, 1 - targets_NC])
    scores_NC = 2 * targets_NC + np.random.default_rng(0).normal(size=(48, 2))
    table = compared(targets_NC, scores_NC, scores_NC > 1, np.arange(48))
    assert list(table["family"]) == ["average"]
    assert table[["low", "high", "within", "p", "p_holm"]].isna().all(axis=None)
    assert (table["patients"][0], table["rare_labels"][0], table["rarest_patients"][0]) == (9, 2, 9)


def test_two_models_that_separate_twelve_patients_perfectly_are_not_called_equivalent():
    targets_NC = np.repeat([1.0, 0.0], [12, 60])[:, None]
    perfect_NC = targets_NC + np.linspace(0, 0.5, 72)[:, None]
    table = compared(targets_NC, perfect_NC, perfect_NC > 0.9, np.arange(72), second_NC=2 * perfect_NC)
    for row in table[table["family"] != "decisions"].itertuples():
        assert row.difference == 0 and row.low < -0.1 and row.high > 0.1
        assert row.within > 0.02 and row.needed > 72


def test_draws_are_raised_where_the_family_is_large():
    """By hand: 12 labels and an opponent; of 100 draws the smallest adjusted p is 12 / 101."""
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((80, 12)) < 0.4).astype(float)
    scores_NC = rng.normal(size=(80, 12)) + 6 * targets_NC
    table = compared(
        targets_NC, scores_NC, scores_NC > 3, np.arange(80), second_NC=rng.normal(size=(80, 12)), draws=100
    )
    assert table.loc[table["family"] == "labels", "p_holm"].max() < 0.05


def compared(targets_NC, first_NC, decided_NC, patients_N, *, second_NC=None, draws=500):
    """The rows of `compare` of a model against another, on a test split made by hand."""
    labels = tuple(f"label-{c}" for c in range(targets_NC.shape[1]))
    split = split_of(targets_NC, patients_N, labels)
    second_NC = first_NC[::-1] if second_NC is None else second_NC
    rows = [
        SimpleNamespace(id=name, constant=False, test_ranked_NC=x_NC, test_decisions_NC=decided_NC)
        for name, x_NC in (("first", first_NC), ("second", second_NC))
    ]
    weights_PB = patient_weights(split.patients, 200, 0)
    resampled = {
        row.id: Resampled(
            predictions=ModelOutput(
                targets_NC=targets_NC, scores_NC=row.test_ranked_NC, decisions_NC=row.test_decisions_NC
            ),
            rows_N=patients_N,
            weights_RB=weights_PB,
        )
        for row in rows
    }
    return compare(split, rows, "first", ["second"], resampled, objective="macro_auroc", draws=draws, seed=0)


def split_of(targets_NC, patients_N, labels):
    counts = SimpleNamespace(split="test", scored_patients=int(patients_N.max()) + 1)
    return EvaluationSet(
        rows_N=np.arange(len(targets_NC)),
        targets_NC=targets_NC,
        patients_N=patients_N,
        labels=labels,
        averaged_C=np.ones(len(labels), dtype=bool),
        prevalences_C=np.full(len(labels), 0.5),
        counts=[counts],
    )


def test_the_published_configuration_is_not_compared_with_itself(published_best):
    by_decisions = replace(published_best, study=replace(published_best.study, objective="macro_f1"))
    for judgement in (published_best, by_decisions):
        assert judgement.published not in set(judgement.comparisons["second"])
    assert all("published configuration" not in claim.sentence for claim in published_best.claims)
    assert "the published configuration itself (Sadman et al. 2025, arXiv 25" in published_best.headline
    assert "best-1 is the published configuration itself" in summary(published_best)
