"""The greedy ensemble, against brute force, scikit-learn and cases worked by hand.

Shape legend: K candidates, M judged images, C labels.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cohort.errors import InputError
from scoring.judging import JudgedRows
from tests.trainables.single_split import probe_data
from trainables import ensemble as module
from trainables.ensemble import pack_ensemble, select_ensemble, selected, unpack_ensemble
from trainables.pooling import pooled
from trainables.records import TrialRecord
from vlm.linear_head import LinearHead

LABELS = ("a", "b", "c")


def folded(images=240, seed=0, multiclass=False):
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((images, 3)) < 0.35).astype(np.float32)
    if multiclass:
        targets_NC = np.eye(3, dtype=np.float32)[rng.integers(0, 3, images)]
    x_ND = rng.normal(size=(images, 6)).astype(np.float32)
    x_ND[:, :3] += targets_NC
    half = images // 2
    data = probe_data(
        x_ND[:half],
        targets_NC[:half],
        x_ND[half:],
        targets_NC[half:],
        val_patients_N=np.arange(half),
        val_folds_N=np.arange(half) % 5,
        labels=LABELS,
    )
    return replace(data, patients_N=np.arange(images), multiclass=multiclass).cross_validated(5, 0, 5)


def candidate(number, data, weight_DC, noise=0.0, seed=0):
    """A head whose held-out logits are its own, with noise of which the head knows nothing."""
    head = LinearHead.plain(weight_DC)
    rng = np.random.default_rng([seed, number + 1])
    logits_MC = head.logits(data.features_ND) + rng.normal(0, noise, (len(data.rows_N), 3))
    held_out = {"held_out_MC": logits_MC.astype(np.float32)}
    value = average_precision_score(data.targets_NC, logits_MC, average="macro")
    return TrialRecord(
        number=number,
        params={},
        state="COMPLETE",
        objective=float(value),
        arrays=head.tensors() | held_out,
    )


def drawn_candidates(data, count=8, noise=0.4):
    rng = np.random.default_rng(5)
    return [
        candidate(k, data, np.eye(6, 3) * rng.uniform(0.2, 3) + rng.normal(0, 0.4, (6, 3)), noise)
        for k in range(count)
    ]


def test_the_answer_is_the_weighted_average_of_its_members_and_one_head_gives_it():
    """To 1e-5 of the spread of its logits: the export equals its members."""
    data = folded()
    candidates = drawn_candidates(data, noise=0.0)
    found = select_ensemble(candidates, {}, data, objective_name="macro_ap", seed=0)
    assert sum(member.weight for member in found.members) == pytest.approx(1)
    assert [a.weight >= b.weight for a, b in pairwise(found.members)] == [True] * (len(found.members) - 1)
    (head,) = found.heads
    # Without noise what a head says of an image and what was held out are the same.
    np.testing.assert_allclose(
        head.logits(data.features_ND), found.held_out_MC, rtol=0, atol=1e-5 * found.held_out_MC.std()
    )
    expected = average_precision_score(data.targets_NC, found.held_out_MC, average="macro")
    assert found.objective == pytest.approx(expected)


def brute_greedy(scores_KMC, targets_MC, rounds):
    """Caruana's selection, one candidate at a time, by scikit-learn alone."""

    def value(scores_MC):
        return average_precision_score(targets_MC, scores_MC, average="macro")

    taken = [int(np.argmax([value(scores) for scores in scores_KMC]))]
    reached = value(scores_KMC[taken[0]])
    while len(taken) < rounds:
        values = [value(np.mean(scores_KMC[[*taken, k]], axis=0)) for k in range(len(scores_KMC))]
        if max(values) <= reached + 1e-12:
            break
        taken.append(int(np.argmax(values)))
        reached = max(values)
    return taken


def test_each_bag_is_the_greedy_selection_of_brute_force(monkeypatch):
    monkeypatch.setattr(module, "BAGS", 1)
    data = folded(seed=3)
    scores_KMC = np.stack([one.held_out_MC for one in drawn_candidates(data, count=9)])
    rows = data.judged()
    weight_K = selected(scores_KMC.astype(np.float64), rows, "macro_ap", seed=4)
    bag = np.sort(np.random.default_rng(4).choice(9, 5, replace=False))
    taken = brute_greedy(scores_KMC[bag].astype(np.float64), data.targets_NC, rounds=20)
    expected_K = np.bincount(bag[taken], minlength=9) / len(taken)
    np.testing.assert_allclose(weight_K, expected_K)


def test_two_halves_that_complete_each_other_worked_by_hand(monkeypatch):
    """One candidate ranks label a perfectly and knows nothing of b, the other the reverse. Alone each has the
    mean of 1 and what a constant has, 1/2; together both labels are perfect."""
    monkeypatch.setattr(module, "BAGS", 1)
    targets_MC = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=np.float64)
    rows = JudgedRows(
        targets_NC=targets_MC,
        patients_N=np.arange(4),
        folds_N=np.arange(4),
        averaged_C=np.array([True, True]),
    )
    only_a, only_b = targets_MC * [1, 0], targets_MC * [0, 1]
    # Bags take half of the candidates, rounded up, so each stands twice.
    scores_KMC = np.stack([only_a, only_b, only_a, only_b])
    for seed in range(6):
        bag = np.sort(np.random.default_rng(seed).choice(4, 2, replace=False))
        weight_K = selected(scores_KMC, rows, "macro_ap", seed)
        if {0, 1} <= set(bag % 2):
            np.testing.assert_allclose(weight_K[bag], [0.5, 0.5])
        else:
            assert weight_K[bag].tolist() == [1.0, 0.0]  # the second adds nothing


def test_multiclass_labels_have_an_answer():
    data = folded(multiclass=True)
    found = select_ensemble(drawn_candidates(data), {}, data, objective_name="macro_ap", seed=0)
    assert found.held_out_MC.shape == data.targets_NC.shape


def test_the_best_of_many_that_know_nothing_falls_back_to_chance_where_others_are_scored(monkeypatch):
    """256 configurations of pure noise, of which 40 are weighed: what was chosen looks far better than
    chance. Everything chosen anew without the patients who are scored, the 40 among it, does not."""
    monkeypatch.setattr(module, "BAGS", 2)
    found = []
    for seed in range(3):
        data = folded(seed=seed)
        noise = [candidate(k, data, np.zeros((6, 3)), noise=1.0, seed=seed) for k in range(256)]
        found.append(select_ensemble(noise, {}, data, objective_name="macro_auroc", seed=0))
    assert min(one.objective for one in found) > 0.6
    assert np.mean([one.nested_objective for one in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([one.best_nested_objective for one in found]) == pytest.approx(0.5, abs=0.03)


def test_a_configuration_that_is_best_everywhere_loses_nothing_by_being_chosen_anew():
    data = folded()
    records = [candidate(k, data, np.eye(6, 3) * 2, noise=noise) for k, noise in enumerate((0.1, 3.0, 3.0))]
    found = select_ensemble(records, {}, data, objective_name="macro_ap", seed=0)
    best_MC = pooled(records[0].held_out_MC, data)
    expected = average_precision_score(data.targets_NC, best_MC, average="macro")
    assert found.best_nested_objective == pytest.approx(expected, abs=0.01)


def test_without_configurations_there_is_no_best_of_them():
    data = folded()
    found = select_ensemble(
        [], {"logreg C=1": candidate(-1, data, np.eye(6, 3))}, data, objective_name="macro_ap", seed=0
    )
    assert np.isnan(found.best_nested_objective)


def test_a_single_strong_regression_is_fallen_back_on_and_said():
    data = folded()
    strong = candidate(-1, data, np.eye(6, 3) * 2)
    noise = [candidate(k, data, np.zeros((6, 3)), noise=1.0) for k in range(4)]
    found = select_ensemble([], {"logreg C=1": strong}, data, objective_name="macro_ap", seed=0)
    assert found.only_plain and found.members[0].name == "logreg C=1"
    assert not select_ensemble(noise, {}, data, objective_name="macro_ap", seed=0).only_plain


def test_the_same_seed_gives_the_same_answer():
    data = folded()
    first, second = (
        select_ensemble(drawn_candidates(data), {}, data, objective_name="macro_ap", seed=3) for _ in range(2)
    )
    assert first.members == second.members
    np.testing.assert_array_equal(first.heads[0].weight_DC, second.heads[0].weight_DC)


def test_an_answer_survives_its_file_and_a_damaged_one_is_one_line():
    data = folded()
    found = select_ensemble(drawn_candidates(data), {}, data, objective_name="macro_ap", seed=0)
    packed = pack_ensemble(found)
    back = unpack_ensemble(packed)
    assert (back.members, back.objective, back.nested_objective, back.best_nested_objective) == (
        found.members,
        found.objective,
        found.nested_objective,
        found.best_nested_objective,
    )
    np.testing.assert_array_equal(back.heads[0].weight_DC, found.heads[0].weight_DC)
    np.testing.assert_array_equal(back.held_out_MC, found.held_out_MC)
    for damaged in (packed[:100], b"", packed[:-40]):
        with pytest.raises(InputError, match=r"^runs/x: damaged \(.*\); delete it and resume the study$"):
            unpack_ensemble(damaged, name="runs/x")
