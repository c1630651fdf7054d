"""What the kept trials of a fine-tuning give together: on a tiny tower, with a judge that is
worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces import linear_probe as space
from search_spaces.configuration import Configuration
from study.fine_tune_answer import FILE, TowerJudge, TunedAnswer, refitted, search_answer, with_weights
from tests.trainables.single_split import probe_data
from tests.trainables.towers import build_tower
from trainables.bank_training import BankTraining
from trainables.baselines.base import chosen
from trainables.baselines.logistic import train_logistic
from trainables.checkpoints import CorruptCheckpoint
from trainables.linear_probe import train_bank
from trainables.records import TrialRecord
from trainables.trial_data import FineTuneData
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tower") / "vit"
    build_tower("vit", folder)
    return load_encoder(f"local-dir:{folder}", device="cpu")


def moved(encoder, by):
    """The encoder with every weight of its image side `by` further."""
    state = {
        name: one + by if one.is_floating_point() else one
        for name, one in encoder.backbone.state_dict().items()
    }
    return with_weights(encoder, state)


def distance(encoder, state):
    """How far from the pretrained tower a state is, as `moved` moves it."""
    name, first = next(iter(encoder.backbone.state_dict().items()))
    return float((state[name] - first).mean())


class ByDistance:
    """Judges a tower by how near its distance is to a wanted one."""

    def __init__(self, encoder, wanted):
        self.encoder, self.wanted, self.objective_name = encoder, wanted, "macro_ap"
        self.tried = 0

    def __call__(self, state):
        self.tried += 1
        return TrialRecord(
            number=1,
            params={"C": 0.1},
            state="COMPLETE",
            objective=self.value(state),
            arrays=LinearHead.plain(np.ones((self.encoder.width, 2))).tensors(),
        )

    def value(self, state):
        return 1 - abs(distance(self.encoder, state) - self.wanted)


class Undecided(ByDistance):
    """Finds all towers equally good."""

    def value(self, state):
        return 0.9


def trial(number, objective, method="full"):
    return TrialRecord(number=number, params={"method": method}, state="COMPLETE", objective=objective)


def test_towers_of_one_method_are_averaged_and_drawn_back(encoder):
    """Trials 4, 7 and 8 lie at 1.0, 0.6 and 0.2; wanted is 0.4. The soup of 4 and 7 is at 0.8, with 8 at 0.6,
    and three quarters of that are 0.45. Trial 5 is of another method."""
    at = {4: 1.0, 7: 0.6, 8: 0.2, 5: 0.4}
    kept = [trial(4, 0.3), trial(5, 0.29, "lora"), trial(7, 0.2), trial(8, 0.1)]
    judge = ByDistance(encoder, 0.4)
    found, lines = search_answer(kept, lambda record: moved(encoder, at[record.number]), judge)
    params = found.record.params
    assert (params["members"], params["share"], params["method"]) == ([4, 7, 8], 0.75, "full")
    assert (params["head"], params["tried"]) == ("logistic regression, C = 0.1", 6)
    assert distance(encoder, found.state) == pytest.approx(0.45, abs=1e-5)
    assert found.record.objective == pytest.approx(0.95)
    assert "the average of the towers of trials 4, 7, 8, 75% of the way from the pretrained one" in found.note
    assert "best trial macro_ap 0.300" in lines[0] and "0.800" in lines[0] and "0.950" in lines[0]


def test_a_tower_that_joins_without_a_gain_is_in_the_weights_that_name_it(encoder):
    at = {4: 1.0, 7: 0.6, 8: 0.2}
    kept = [trial(number, 0.3) for number in at]
    judge = Undecided(encoder, 0.0)
    found, _ = search_answer(kept, lambda record: moved(encoder, at[record.number]), judge)
    assert (found.record.params["members"], found.record.params["share"]) == ([4, 7, 8], 1.0)
    assert distance(encoder, found.state) == pytest.approx(0.6, abs=1e-5)


def test_the_best_trial_is_the_answer_where_nothing_improves_it(encoder):
    judge = ByDistance(encoder, 1.0)
    found, lines = search_answer([trial(4, 2.0)], lambda record: moved(encoder, 1.0), judge)
    assert found is None and lines[-1] == "final model: trial 4 itself, which none of 4 improved"


def test_what_no_time_was_left_for_is_said(encoder):
    found, lines = search_answer(
        [trial(4, 0.5)],
        lambda record: encoder,
        TowerJudge(
            encoder=encoder,
            images=None,
            given=None,
            objective_name="macro_ap",
            batch_size=8,
            seed=0,
            deadline=-math.inf,
        ),
    )
    assert found is None and "no time was left" in lines[0]


def test_an_answer_survives_its_file_and_damage_is_found(encoder, tmp_path):
    judge = ByDistance(encoder, 0.5)
    found, _ = search_answer([trial(4, 0.3)], lambda record: moved(encoder, 0.5), judge)
    found.save(tmp_path)
    back = TunedAnswer.load(tmp_path)
    assert back.record.params == found.record.params and back.note == found.note
    np.testing.assert_array_equal(back.record.head.weight_DC, found.record.head.weight_DC)
    assert all(torch.equal(back.state[name], one) for name, one in found.state.items())
    assert with_weights(encoder, back.state).fingerprint == moved(encoder, 0.5).fingerprint
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-100])
    with pytest.raises(CorruptCheckpoint):
        TunedAnswer.load(tmp_path)


def labelled(width=6, images=120):
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((images, 2)) < 0.4).astype(np.float32)
    x_ND = rng.normal(size=(images, width)) + targets_NC[:, :1]
    half = images // 2
    return probe_data(
        x_ND[:half],
        targets_NC[:half],
        x_ND[half:],
        targets_NC[half:],
        val_patients_N=np.arange(half),
        val_folds_N=np.arange(half) % 4,
        labels=("a", "b"),
    )


def test_the_refitted_head_is_the_better_of_the_probes_bank_and_the_regressions():
    data = labelled()
    seen = space.plain("projected")
    bank = train_bank(
        [Configuration(space.SPACE, n, seen | start) for n, start in enumerate(space.warm_starts(seen))],
        data,
        training=BankTraining(batch_size=16),
    )
    regression = chosen(train_logistic(data, objective_name="macro_ap"))
    best = max([*bank, regression], key=lambda record: record.objective)
    found = refitted(data, "macro_ap", 16, 0)
    assert found.objective == best.objective
    np.testing.assert_array_equal(found.head.weight_DC, best.head.weight_DC)


def test_a_tower_is_judged_by_heads_on_its_own_features(encoder, tmp_path):
    size = encoder.geometry.size
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (120, size, size, 1), dtype=np.uint8))
    given = labelled(width=encoder.width)
    images = FineTuneData(
        images_file=tmp_path / "images.npy",
        **{
            name: getattr(given, name)
            for name in (
                "rows_N",
                "targets_NC",
                "patients_N",
                "fold_N",
                "threshold_fold_N",
                "labels",
                "objective_labels_C",
            )
        },
    )
    judge = TowerJudge(
        encoder=encoder,
        images=images,
        given=given,
        objective_name="macro_ap",
        batch_size=16,
        seed=0,
        deadline=math.inf,
    )
    value = judge(encoder.backbone.state_dict()).objective
    features_ND = encoder.image_features(images.images_NHWC[given.rows_N]).numpy()
    expected = refitted(replace(given, features_ND=features_ND), "macro_ap", 16, 0)
    assert value == pytest.approx(expected.objective, abs=0.02)  # which may be computed in bf16
    assert judge.tried == 1
