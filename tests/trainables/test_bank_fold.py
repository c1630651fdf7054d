"""What heads see of a fold: features of several kinds, masked labels, views."""

from dataclasses import replace

import numpy as np
import pytest

from tests.trainables.drawn_probes import LABELS, assert_same, config, draw_data, folded, mixed_bank
from tests.trainables.single_split import probe_data, training, validation
from trainables.bank_training import BankTraining
from trainables.linear_probe import train_bank


def test_centred_features_have_mean_0_and_one_common_scale():
    data = draw_data()
    [result] = train_bank([config(normalisation="center")], data)
    x_ND = (training(data)[0] - result.head.mean_D) / result.head.scale_D
    assert np.abs(x_ND.mean(0)).max() < 1e-5
    assert (x_ND**2).mean() == pytest.approx(1, abs=1e-4)
    assert np.ptp(result.head.scale_D) == 0


def test_features_that_are_constant_or_zero_do_no_harm():
    data = draw_data()
    features_ND = data.features_ND.copy()
    features_ND[:, 0] = 0.1
    features_ND[::2, 0] = np.nextafter(np.float32(0.1), np.float32(1))  # constant up to rounding
    zero_in_train, zero_in_val = data.training_N()[0], data.judged_N()[0]
    features_ND[[zero_in_train, zero_in_val]] = 0
    features_ND[zero_in_train, 0] = 0.1
    data = replace(data, features_ND=features_ND)
    for normalisation in ("none", "l2", "center", "standardize"):
        [result] = train_bank([config(normalisation=normalisation)], data)
        assert result.state == "COMPLETE"
        assert np.abs(result.head.logits(validation(data)[0])).max() < 100


def test_a_masked_entry_teaches_nothing():
    """Images whose every label is masked leave a head as if they were not there (one batch: no order)."""
    data = draw_data()
    (x_ND, targets_NC), rows = training(data), data.judged()
    padded = probe_data(
        np.concatenate([x_ND, np.full((50, 12), 7.0)]),
        np.concatenate([targets_NC, np.full((50, 4), np.nan)]),
        *validation(data),
        val_patients_N=rows.patients_N,
        val_folds_N=rows.folds_N,
        labels=LABELS,
    )
    configs = [one for one in mixed_bank() if one["normalisation"] in ("none", "l2")]
    for one, other in zip(train_bank(configs, padded), train_bank(configs, data), strict=True):
        assert_same(one, other, 1e-5)


def test_features_that_the_encoder_lacks_are_refused():
    with pytest.raises(ValueError, match="features must be a kind of projected, not deep"):
        train_bank([config(features="deep")], draw_data())


def test_wide_features_are_trained_in_the_span_of_the_images_and_lose_nothing():
    """A penalised head trained long on 300 columns, and on coordinates of 192 images: the same scores to 2 %.

    Coordinates have mean square 1 as standardised columns have, so that there are 300 / rank times as many of
    the latter and a penalty counts so much less.
    """
    data = folded(width=300, blocks=(150, 150))
    rank = min(len(data.training_N(0)) - 1, 300)
    common = {"learning_rate": 0.02, "weight_decay": 0.0, "epochs": 600}
    how = BankTraining(rungs=(), clip_norm=None)
    [wide] = train_bank(
        [config(0, normalisation="standardize", l2_penalty=3.0 * 300 / rank, **common)], data, training=how
    )
    [narrow] = train_bank([config(1, features="deep", l2_penalty=3.0, **common)], data, training=how)
    assert narrow.head.weight_DC.shape == (300, 4)
    spread = wide.held_out_MC.std()
    np.testing.assert_allclose(narrow.held_out_MC, wide.held_out_MC, rtol=0, atol=0.02 * spread)


def test_views_are_further_rows_of_their_image_and_averaged_in_what_a_head_says():
    """Views that are all the same leave a head as it is, one batch per epoch: a row only counts thrice. The
    first label, half of the images, has a bias without a gradient, whose rounding Adam makes a step of."""
    data = folded()
    same = replace(data, features_ND=np.tile(data.features_ND, (1, 3)), image_views=3)
    configs = [config(0, normalisation="standardize"), config(1, normalisation="center", loss="bce")]
    how = BankTraining(batch_size=10_000)
    for one, other in zip(
        train_bank(configs, same, training=how), train_bank(configs, data, training=how), strict=True
    ):
        spread = other.held_out_MC.std()
        np.testing.assert_allclose(
            one.held_out_MC[:, 1:], other.held_out_MC[:, 1:], rtol=0, atol=1e-4 * spread
        )
        np.testing.assert_allclose(
            one.head.logits(same.features_ND)[:, 1:],
            other.head.logits(data.features_ND)[:, 1:],
            rtol=0,
            atol=1e-4 * spread,
        )


def test_an_image_that_is_held_out_is_held_out_in_every_view():
    data = folded()
    rng = np.random.default_rng(0)
    other_ND = (data.features_ND + rng.normal(0, 0.5, data.features_ND.shape)).astype(np.float32)
    seen = replace(data, features_ND=np.concatenate([data.features_ND, other_ND], axis=1), image_views=2)
    [result] = train_bank([config()], seen)
    moved = seen.features_ND.copy()
    moved[seen.judged_N(0)] += 50  # what fold 0 holds out has no part in the head that judges it
    [again] = train_bank([config()], replace(seen, features_ND=moved))
    own = seen.judged_N(0)
    shift_MC = again.held_out_MC[own] - result.held_out_MC[own]
    assert np.abs(shift_MC - shift_MC[:1]).max() < 1e-2
