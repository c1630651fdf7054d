"""The closed form of text and labels, worked by hand and on data where either alone is not enough."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tests.trainables.single_split import probe_data
from trainables.baselines import text_informed as module
from trainables.baselines.text_informed import text_informed


def split(x_ND, targets_NC, half):
    return probe_data(
        x_ND[:half],
        targets_NC[:half],
        x_ND[half:],
        targets_NC[half:],
        val_patients_N=np.arange(len(x_ND) - half),
        val_folds_N=np.arange(len(x_ND) - half) % 2,
        labels=tuple("abc")[: targets_NC.shape[1]],
    )


def test_the_head_worked_by_hand(monkeypatch):
    """Positives point along the first axis, negatives along the second; the text along the third, of length 1
    whatever it was. With strength 3 the weights are (3, -3, 1)."""
    monkeypatch.setattr(module, "STRENGTHS", (3.0,))
    x_ND = np.array([[2.0, 0, 0], [5.0, 0, 0], [0, 4.0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    targets_NC = np.array([[1], [1], [0], [1], [0]], dtype=np.float32)
    data = replace(split(x_ND, targets_NC, 3), text_CD=np.float32([[0, 0, 7]]))
    (found,) = text_informed(data, "macro_ap")
    np.testing.assert_allclose(found.head.weight_DC[:, 0], [3, -3, 1])
    assert found.head.l2 and found.params == {"strength": 3.0} and found.objective == 1.0
    np.testing.assert_allclose(found.held_out_MC[:, 0], [3, -3])


def best(data, text_CD):
    found = text_informed(replace(data, text_CD=text_CD.astype(np.float32)), "macro_ap")
    return max(found, key=lambda record: record.objective)


def drawn(text_is_right, seed=0, images=300):
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((images, 3)) < 0.3).astype(np.float32)
    directions_CD = np.eye(3, 12)
    x_ND = targets_NC @ directions_CD + rng.normal(0, 0.7, (images, 12)) + 2  # all images share a direction
    text_CD = directions_CD if text_is_right else rng.normal(size=(3, 12))
    data = split(x_ND, targets_NC, images // 2)
    return replace(data, patients_N=np.arange(images)).cross_validated(5, 0, 5), text_CD


def test_a_text_that_misleads_is_outweighed_by_the_images():
    data, text_CD = drawn(text_is_right=False)
    found = best(data, text_CD)
    alone = average_precision_score(data.targets_NC, data.features_ND @ text_CD.T, average="macro")
    assert found.params["strength"] > 0 and found.objective > alone + 0.2


def test_scores_on_folds_are_those_of_heads_that_did_not_see_the_image():
    data, text_CD = drawn(text_is_right=True)
    found = best(data, text_CD)
    fold, own = 2, data.judged_N(2)
    train_N = data.training_N(fold)
    x_ND = data.features_ND / np.linalg.norm(data.features_ND, axis=1, keepdims=True)
    for c in range(3):
        positive_N = data.targets_NC[train_N, c] == 1
        shift_D = x_ND[train_N][positive_N].mean(0) - x_ND[train_N][~positive_N].mean(0)
        expected_N = x_ND[own] @ (text_CD[c] + found.params["strength"] * shift_D)
        found_N = found.held_out_MC[own, c]
        np.testing.assert_allclose(found_N - found_N.mean(), expected_N - expected_N.mean(), atol=1e-4)
    expected = average_precision_score(data.targets_NC, found.held_out_MC, average="macro")
    assert found.objective == pytest.approx(expected)


def test_a_label_without_a_positive_rests_on_its_text_alone():
    data, text_CD = drawn(text_is_right=True)
    targets_NC = data.targets_NC.copy()
    targets_NC[:, 2] = 0
    data = replace(data, targets_NC=targets_NC, objective_labels_C=np.array([1, 1, 0], bool))
    found = best(data, text_CD)
    np.testing.assert_allclose(found.head.weight_DC[:, 2], text_CD[2], atol=1e-6)
