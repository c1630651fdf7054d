from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from vlm.linear_head import LinearHead, combined, standardisation


def head(l2: bool = False, **changes) -> LinearHead:
    arrays = {
        "weight_DC": np.array([[1, 0, -1], [2, 1, 0]], np.float32),
        "bias_C": np.array([0.5, 0, -0.5], np.float32),
        "mean_D": np.zeros(2, np.float32),
        "scale_D": np.ones(2, np.float32),
    }
    return LinearHead(**(arrays | changes), l2=l2)


def test_logits_of_one_image_worked_by_hand():
    assert head().logits(np.array([[3.0, 4.0]])).tolist() == [[11.5, 4.0, -3.5]]
    # (3, 4) has the norm 5: x = (0.6, 0.8)
    np.testing.assert_allclose(head(l2=True).logits(np.array([[3.0, 4.0]])), [[2.7, 0.8, -1.1]], rtol=1e-6)
    standardised = head(mean_D=np.array([1, 2], np.float32), scale_D=np.array([2, 4], np.float32))
    np.testing.assert_allclose(standardised.logits(np.array([[3.0, 4.0]])), [[2.5, 0.5, -1.5]], rtol=1e-6)


def test_mean_and_deviation_by_hand():
    mean_D, scale_D = standardisation(np.array([[0, 1], [2, 7]], np.float32))
    assert (mean_D.tolist(), scale_D.tolist()) == ([1, 4], [1, 3])
    _, scale_D = standardisation(np.array([[0, 1], [2, 7]], np.float32), one_scale=True)
    np.testing.assert_allclose(scale_D, [np.sqrt(5)] * 2)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.1])
def test_a_feature_that_varies_by_rounding_alone_is_not_blown_up(value):
    x_ND = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    x_ND[:, 1] = value
    x_ND[::2, 1] = np.nextafter(np.float32(value), np.float32(np.inf))
    assert x_ND[:, 1].std(dtype=np.float64) > 0
    _, scale_D = standardisation(x_ND)
    assert scale_D[1] == 1
    np.testing.assert_allclose(scale_D[0], x_ND[:, 0].std(), rtol=1e-6)


def test_a_row_of_zeros_stays_zeros_under_l2():
    assert head(l2=True).logits(np.zeros((1, 2))).tolist() == [[0.5, 0, -0.5]]


@pytest.mark.parametrize("l2", [False, True])
def test_logits_equal_a_scikit_learn_pipeline(l2):
    rng = np.random.default_rng(0)
    x_ND, y_N = rng.normal(3, 5, (200, 6)), rng.integers(0, 2, 200)
    steps = ([Normalizer()] if l2 else []) + [StandardScaler(), LogisticRegression()]
    pipeline = make_pipeline(*steps).fit(x_ND, y_N)
    scaler, regression = pipeline[-2], pipeline[-1]
    ours = LinearHead(
        weight_DC=regression.coef_.T.astype(np.float32),
        bias_C=regression.intercept_.astype(np.float32),
        mean_D=scaler.mean_.astype(np.float32),
        scale_D=scaler.scale_.astype(np.float32),
        l2=l2,
    )
    np.testing.assert_allclose(ours.logits(x_ND)[:, 0], pipeline.decision_function(x_ND), atol=2e-6)
    assert ours.logits(x_ND).dtype == np.float32


def test_tensors_round_trip():
    original = head(l2=True)
    again = LinearHead.from_tensors(original.tensors() | {"thresholds_C": np.zeros(3)})
    assert again.l2
    for name in ("weight_DC", "bias_C", "mean_D", "scale_D"):
        np.testing.assert_array_equal(getattr(again, name), getattr(original, name))


@pytest.mark.parametrize("l2", [False, True])
def test_a_plain_head_takes_features_as_they_are_and_weights_of_any_float_type(l2):
    weight_DC = np.array([[1, 0, -1], [2, 1, 0]], np.float64).T.copy().T  # not in C order
    plain = LinearHead.plain(weight_DC, [0.5, 0, -0.5], l2=l2)
    x_ND = np.random.default_rng(0).normal(size=(4, 2))
    np.testing.assert_array_equal(plain.logits(x_ND), head(l2=l2).logits(x_ND))
    assert plain.weight_DC.dtype == plain.bias_C.dtype == np.float32
    assert LinearHead.plain(weight_DC).bias_C.tolist() == [0, 0, 0]
    assert not LinearHead.plain(weight_DC).l2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_DC": np.zeros(3, np.float32)}, "weight_DC must have shape"),
        ({"bias_C": np.zeros(2, np.float32)}, r"bias_C must have shape \(3,\), not \(2,\)"),
        ({"scale_D": np.array([1, 0], np.float32)}, "scale_D must be positive"),
        ({"mean_D": np.zeros(2)}, "mean_D must be float32, not float64"),
        ({"bias_C": np.array([0, np.nan, 0], np.float32)}, "bias_C must be finite"),
    ],
)
def test_a_head_that_cannot_be_applied_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        head(**changes)


def test_features_that_are_too_narrow_are_refused():
    with pytest.raises(ValueError, match=r"features_ND must have shape \(images, 2 or more\), not \(4, 1\)"):
        head().logits(np.zeros((4, 1)))


def test_a_head_reads_its_own_columns_of_a_wider_row():
    rows_ND = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    shifted = replace(head(), first=3)
    np.testing.assert_array_equal(shifted.logits(rows_ND), head().logits(rows_ND[:, 3:]))
    assert LinearHead.from_tensors(shifted.tensors()).first == 3


# ---- sums of heads ----


def drawn_head(rng, width, *, first=0, normalisation="standardize", l2=False):
    """A head on features whose means are a hundred times their deviations."""
    mean_D = rng.normal(100, 20, width) if normalisation == "standardize" else np.zeros(width)
    scale_D = rng.uniform(0.1, 2, width) if normalisation == "standardize" else np.ones(width)
    return LinearHead(
        weight_DC=rng.normal(size=(width, 3)).astype(np.float32),
        bias_C=rng.normal(size=3).astype(np.float32),
        mean_D=mean_D.astype(np.float32),
        scale_D=scale_D.astype(np.float32),
        l2=l2,
        first=first,
    )


def features_of(rng, images=50, width=20):
    return (rng.normal(100, 20, width) + rng.normal(size=(images, width))).astype(np.float32)


def test_a_weighted_sum_of_affine_heads_is_one_head_over_the_union_of_their_columns():
    """To 1e-5 of the spread of the logits."""
    rng = np.random.default_rng(0)
    x_ND = features_of(rng)
    heads = [drawn_head(rng, 8), drawn_head(rng, 6, first=12), drawn_head(rng, 8), drawn_head(rng, 20)]
    weights, intercept_C = [0.5, 0.2, 1.5, -0.3], np.array([1.0, 0.0, -2.0])
    (one,) = combined(heads, weights, intercept_C)
    assert (one.first, one.weight_DC.shape) == (0, (20, 3))
    expected_NC = sum(
        w * head.logits(x_ND).astype(np.float64) for w, head in zip(weights, heads, strict=True)
    )
    expected_NC += intercept_C
    np.testing.assert_allclose(one.logits(x_ND), expected_NC, rtol=0, atol=1e-5 * expected_NC.std())


def test_columns_that_no_member_reads_have_no_weight():
    rng = np.random.default_rng(1)
    (one,) = combined([drawn_head(rng, 3, first=2), drawn_head(rng, 3, first=9)], [0.5, 0.5])
    assert (one.first, len(one.mean_D)) == (2, 10)
    assert not one.weight_DC[3:7].any() and (one.scale_D[3:7] == 1).all()


def test_heads_on_directions_stay_apart_and_the_mean_of_all_is_the_sum():
    rng = np.random.default_rng(2)
    x_ND = features_of(rng)
    plain = {"normalisation": "none", "l2": True}
    heads = [
        drawn_head(rng, 8, **plain),
        drawn_head(rng, 8),
        drawn_head(rng, 8, **plain),
        drawn_head(rng, 12, first=8, **plain),
    ]
    weights = [0.4, 0.3, 0.2, 0.1]
    merged = combined(heads, weights, np.array([0.5, 0, 0]))
    assert [(head.l2, head.first) for head in merged] == [(True, 0), (False, 0), (True, 8)]
    expected_NC = sum(
        w * head.logits(x_ND).astype(np.float64) for w, head in zip(weights, heads, strict=True)
    )
    expected_NC += [0.5, 0, 0]
    mean_NC = np.mean([head.logits(x_ND).astype(np.float64) for head in merged], axis=0)
    np.testing.assert_allclose(mean_NC, expected_NC, rtol=0, atol=1e-5 * expected_NC.std())


def test_a_sum_of_no_heads_or_of_other_weights_is_refused():
    with pytest.raises(ValueError, match="weights must be one a head, not 1 of 0"):
        combined([], [1.0])
