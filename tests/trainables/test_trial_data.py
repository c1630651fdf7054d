"""Which rows a trial trains on, which it is judged on, and what is refused.

Shape legend: N development images, M judged images of one fold, D features, C labels.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.patients import patient_folds
from tests.trainables.single_split import probe_data, training, validation
from trainables.trial_data import FineTuneData, ProbeData, TrialData

LABELS = ("heart", "effusion", "hernia")
BY_ROW = ("rows_N", "targets_NC", "patients_N", "fold_N", "threshold_fold_N", "features_ND")


def draw_data(train: int = 60, val: int = 40) -> ProbeData:
    """Three labels, the last of them rare, two images a patient."""
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((train + val, 3)) < [0.5, 0.4, 0.2]).astype(np.float32)
    features_ND = rng.standard_normal((train + val, 5)) + 1
    patients_N = np.arange(val) // 2
    data = probe_data(
        features_ND[:train],
        targets_NC[:train],
        features_ND[train:],
        targets_NC[train:],
        val_patients_N=patients_N,
        val_folds_N=patient_folds(targets_NC[train:], patients_N, folds=3),
        labels=LABELS,
    )
    return replace(data, patients_N=np.arange(train + val) // 2)


@pytest.fixture(scope="module")
def probe() -> ProbeData:
    return draw_data()


def in_folds(data: ProbeData, folds: int) -> ProbeData:
    """Every row judged once: cross-validation by patient."""
    fold_N = patient_folds(data.targets_NC, data.patients_N, folds=folds)
    threshold_fold_N = np.zeros(len(fold_N), np.int64)
    for fold in range(folds):
        judged_N = fold_N == fold
        threshold_fold_N[judged_N] = patient_folds(
            data.targets_NC[judged_N], data.patients_N[judged_N], folds=3
        )
    return replace(data, fold_N=fold_N, threshold_fold_N=threshold_fold_N)


# ---- folds ----


def test_a_given_split_is_one_fold(probe):
    assert probe.folds == 1
    assert probe.training_N().tolist() == list(range(60))
    assert probe.judged_N().tolist() == list(range(60, 100))
    rows = probe.judged()
    np.testing.assert_array_equal(rows.targets_NC, probe.targets_NC[60:])
    np.testing.assert_array_equal(rows.patients_N, probe.patients_N[60:])
    np.testing.assert_array_equal(rows.folds_N, probe.threshold_fold_N[60:])
    assert rows.averaged_C.tolist() == [True, True, True]


def test_the_order_of_the_rows_is_that_of_the_data_however_the_sides_are_mixed(probe):
    order_N = np.random.default_rng(1).permutation(100)
    mixed = replace(probe, **{name: getattr(probe, name)[order_N] for name in BY_ROW})
    assert mixed.rows_N[mixed.judged_N()].tolist() == [row for row in order_N if row >= 60]
    assert mixed.rows_N[mixed.training_N()].tolist() == [row for row in order_N if row < 60]
    np.testing.assert_array_equal(mixed.judged().targets_NC, probe.targets_NC[order_N[order_N >= 60]])


def test_each_of_five_folds_is_judged_once_by_what_saw_none_of_its_patients(probe):
    data = in_folds(probe, 5)
    assert data.folds == 5
    judged = [data.judged_N(fold) for fold in range(5)]
    assert np.sort(np.concatenate(judged)).tolist() == list(range(100))
    for fold, judged_M in enumerate(judged):
        training_N = data.training_N(fold)
        assert sorted([*training_N, *judged_M]) == list(range(100))
        assert not set(data.patients_N[training_N]) & set(data.patients_N[judged_M])
        rows = data.judged(fold)
        np.testing.assert_array_equal(rows.targets_NC, data.targets_NC[judged_M])
        np.testing.assert_array_equal(rows.folds_N, data.threshold_fold_N[judged_M])
        assert set(rows.folds_N) == {0, 1, 2}


def test_a_row_of_no_fold_is_trained_on_by_every_fold(probe):
    fold_N = np.where(np.arange(100) < 60, -1, np.arange(100) % 2)
    data = replace(probe, fold_N=fold_N)
    for fold in (0, 1):
        assert set(range(60)) < set(data.training_N(fold))
        assert data.judged_N(fold).tolist() == list(range(60 + fold, 100, 2))


def test_a_label_counts_where_every_folds_training_has_a_positive(probe):
    targets_NC = probe.targets_NC.copy()
    targets_NC[probe.training_N(), 2] = 0
    assert replace(probe, targets_NC=targets_NC).scored_C.tolist() == [True, True, False]
    one_positive_NC = probe.targets_NC.copy()
    one_positive_NC[:, 2] = np.arange(100) == 7
    folds = in_folds(probe, 5)
    assert folds.scored_C.all()
    # The one positive image is judged in its own fold, by what has seen no positive at all.
    assert replace(folds, targets_NC=one_positive_NC).scored_C.tolist() == [True, True, False]


# ---- split anew ----


def test_dealing_anew_gives_the_held_rows_to_validation_and_the_rest_to_training(probe):
    """As the two sides were cut and put together when a trial still had one array for each."""
    targets_NC = probe.targets_NC.copy()
    targets_NC[np.random.default_rng(2).random(targets_NC.shape) < 0.05] = np.nan
    probe = replace(probe, targets_NC=targets_NC)
    folds_N = patient_folds(targets_NC, probe.patients_N, folds=5, seed=3)
    for fold in range(5):
        held_N = folds_N == fold
        resplit = probe.resplit(held_N, seed=3)
        for side, rows_N in ((training(resplit), ~held_N), (validation(resplit), held_N)):
            np.testing.assert_array_equal(side[0], probe.features_ND[rows_N])
            np.testing.assert_array_equal(side[1], targets_NC[rows_N])
        rows, held_NC = resplit.judged(), targets_NC[held_N]
        np.testing.assert_array_equal(rows.patients_N, probe.patients_N[held_N])
        np.testing.assert_array_equal(rows.folds_N, patient_folds(held_NC, probe.patients_N[held_N], seed=3))
        both_C = (held_NC == 1).any(0) & (held_NC == 0).any(0)
        np.testing.assert_array_equal(resplit.objective_labels_C, both_C)
        assert resplit.labels == probe.labels and resplit.precision == probe.precision


def test_a_label_that_did_not_count_does_not_after_dealing_anew(probe):
    data = replace(probe, objective_labels_C=np.array([True, True, False]))
    assert data.resplit(np.arange(100) < 50, seed=0).objective_labels_C.tolist() == [True, True, False]


def test_too_few_patients_cannot_be_split_anew(probe):
    with pytest.raises(InputError, match="4 patients cannot be split into 5 folds"):
        probe.resplit(np.arange(100) < 8, seed=0)


# ---- what is refused ----


def changed(name, value, at=None):
    """The fields that differ: `name` put through `value`, or `value` written into it `at` a place."""

    def changes(data) -> dict:
        array = getattr(data, name).copy()
        if at is None:
            return {name: value(array)}
        array[at] = value
        return {name: array}

    return changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            changed("patients_N", lambda patients: patients[1:]),
            "patients_N must be int64 (100,), not int64 (99,)",
        ),
        (
            changed("rows_N", lambda rows: rows.astype(np.int32)),
            "rows_N must be int64 (100,), not int32 (100,)",
        ),
        (changed("rows_N", 4, at=3), "rows_N must name each image once"),
        (
            changed("patients_N", lambda patients: patients * 1.0),
            "patients_N must be int64 (100,), not float64 (100,)",
        ),
        (changed("fold_N", lambda fold: fold[1:]), "fold_N must be int64 (100,), not int64 (99,)"),
        (
            changed("threshold_fold_N", lambda fold: fold[1:]),
            "threshold_fold_N must be int64 (100,), not int64 (99,)",
        ),
        (
            changed("targets_NC", lambda targets: targets[:, 1:]),
            "targets_NC must be float32 (100, 3), not float32 (100, 2)",
        ),
        (
            changed("targets_NC", lambda targets: targets.astype(np.float64)),
            "targets_NC must be float32 (100, 3), not float64 (100, 3)",
        ),
        (changed("targets_NC", 0.5, at=(0, 0)), "targets_NC must be 0, 1 or NaN, not 0.5"),
        (changed("fold_N", -1, at=slice(None)), "fold_N must be -1 or folds from 0, not [-1]"),
        (changed("fold_N", -2, at=0), "fold_N must be -1 or folds from 0, not [-2, -1, 0]"),
        (changed("fold_N", 2, at=99), "fold_N must be -1 or folds from 0, not [-1, 0, 2]"),
        (changed("fold_N", 0, at=slice(None)), "fold_N must leave images to train on outside each fold"),
        (changed("threshold_fold_N", 1, at=0), "threshold_fold_N must be -1 where fold_N is, and only there"),
        (
            changed("threshold_fold_N", -1, at=99),
            "threshold_fold_N must be -1 where fold_N is, and only there",
        ),
        (
            changed("objective_labels_C", lambda counts: counts * 1),
            "objective_labels_C must be bool (3,), not int64 (3,)",
        ),
        (
            changed("objective_labels_C", lambda counts: counts[1:]),
            "objective_labels_C must be bool (3,), not bool (2,)",
        ),
        (
            changed("targets_NC", 0, at=(slice(60, None), 2)),
            "objective_labels_C must have positives and negatives among the judged images, unlike hernia",
        ),
        (
            changed("targets_NC", 1, at=(slice(60, None), slice(1, None))),
            "objective_labels_C must have positives and negatives among the judged images, unlike effusion, "
            "hernia",
        ),
        (changed("features_ND", lambda x: x[:, 0]), "features_ND must be (100, D), not float32 (100,)"),
        (changed("features_ND", lambda x: x[:, :0]), "features_ND must be (100, D), not float32 (100, 0)"),
        (changed("features_ND", lambda x: x[1:]), "features_ND must be (100, D), not float32 (99, 5)"),
        (changed("features_ND", lambda x: x.astype(np.float64)), "features_ND must be float32, not float64"),
        (
            changed("features_ND", np.nan, at=(3, 1)),
            "features_ND must be finite, not NaN or infinite in 1 rows, first row 3",
        ),
        (
            changed("features_ND", np.inf, at=(slice(70, 72), 0)),
            "features_ND must be finite, not NaN or infinite in 2 rows, first row 70",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(probe, changes, message):
    with pytest.raises(ValueError) as raised:
        replace(probe, **changes(probe))
    assert str(raised.value) == message


def test_no_images_at_all_are_refused(probe):
    with pytest.raises(ValueError, match="rows_N must name at least one image, not 0"):
        replace(probe, **{name: getattr(probe, name)[:0] for name in BY_ROW})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            changed("objective_labels_C", False, at=slice(None)),
            r"^there is nothing to optimise: 3 labels \('heart' first\) have too few positive patients on "
            r"validation: pool labels, or give validation more patients$",
        ),
        (
            changed("targets_NC", 0, at=slice(None, 60)),
            r"3 labels \('heart' first\) have no positive image on training: give training some$",
        ),
    ],
)
def test_nothing_to_optimise_is_the_users_to_mend(probe, changes, message):
    with pytest.raises(InputError, match=message):
        replace(probe, **changes(probe))


def test_labels_without_a_negative_are_told_from_labels_without_positives(probe):
    """The first label is positive in every image; the others have no positive on validation."""
    targets_NC = probe.targets_NC.copy()
    targets_NC[:, 0] = 1
    targets_NC[probe.fold_N >= 0, 1:] = 0
    message = (
        r"^there is nothing to optimise: 'heart' has no negative image on validation: .*--blank negative .*; "
        r"2 labels \('effusion' first\) have too few positive patients on validation: pool labels"
    )
    with pytest.raises(InputError, match=message):
        replace(probe, targets_NC=targets_NC, objective_labels_C=np.zeros(3, dtype=bool))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed("rows_N", lambda rows: rows + 1), r"rows_N must lie in 0\.\.39, not 1\.\.40"),
        (changed("rows_N", lambda rows: rows - 1), r"rows_N must lie in 0\.\.39, not -1\.\.38"),
    ],
)
def test_rows_that_the_store_does_not_have_are_refused(data, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(data, **changes(data))


@pytest.mark.parametrize("images", [np.zeros((40, 8, 8, 1)), np.zeros((40, 8, 8, 2), np.uint8)])
def test_a_store_of_something_else_is_refused(data, tmp_path, images):
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(ValueError, match=r"images\.npy must hold uint8 \(images, H, W, 1 or 3\), not "):
        replace(data, images_file=tmp_path / "images.npy")


# ---- travelling ----


def test_images_travel_by_the_name_of_their_store(data):
    travelled = pickle.dumps(data)
    assert len(travelled) < 5_000
    again = pickle.loads(travelled)
    assert isinstance(again, FineTuneData) and isinstance(again.images_NHWC, np.memmap)
    np.testing.assert_array_equal(again.images_NHWC, data.images_NHWC)
    np.testing.assert_array_equal(again.targets_NC, data.targets_NC)


# ---- multiclass labels ----


def test_multiclass_labels_are_checked_and_reach_the_judged_rows(probe):
    one_each_NC = np.eye(3, dtype=np.float32)[np.arange(len(probe.rows_N)) % 3]
    one_each_NC[7] = np.nan
    classes = replace(probe, targets_NC=one_each_NC, multiclass=True)
    assert classes.judged().multiclass and not probe.judged().multiclass
    assert classes.resplit(np.arange(len(probe.rows_N)) < 40, seed=1).judged().multiclass
    with pytest.raises(ValueError, match="exactly one label per image where they are multiclass"):
        replace(probe, multiclass=True)


def test_cross_validation_judges_every_row_once_and_keeps_patients_together():
    rng = np.random.default_rng(3)
    patients_N = np.repeat(np.arange(40), 2)
    targets_NC = (rng.random((80, 3)) < 0.4).astype(np.float32)
    fold_N = np.where(patients_N < 30, -1, 0)
    given = TrialData(
        rows_N=np.arange(80),
        targets_NC=targets_NC,
        patients_N=patients_N,
        fold_N=fold_N,
        threshold_fold_N=fold_N,
        labels=("a", "b", "c"),
        objective_labels_C=np.ones(3, dtype=bool),
    )
    resplit = given.cross_validated(5, seed=0, enough=5)
    assert resplit.folds == 5
    assert resplit.judged_N().tolist() == list(range(80)) == resplit.training_N().tolist()
    for fold in range(5):
        apart = set(patients_N[resplit.training_N(fold)]) & set(patients_N[resplit.judged_N(fold)])
        assert not apart
    assert (resplit.judged().folds_N == resplit.fold_N).all()


def test_cross_validation_refuses_fewer_patients_than_folds():
    given = TrialData(
        rows_N=np.arange(8),
        targets_NC=np.tile(np.float32([[0], [1]]), (4, 1)),
        patients_N=np.repeat(np.arange(4), 2),
        fold_N=np.repeat([-1, 0], 4),
        threshold_fold_N=np.repeat([-1, 0], 4),
        labels=("a",),
        objective_labels_C=np.ones(1, dtype=bool),
    )
    with pytest.raises(InputError, match="4 patients cannot be split into 5 folds"):
        given.cross_validated(5, seed=0, enough=1)
