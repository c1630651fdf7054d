"""How the heads of a bank are trained, whatever they are."""

import pytest

from trainables.bank_training import PAPER_TRAINING, BankTraining, training_of


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"rungs": (0,)}, "rungs must be epochs from 1, not (0,)"),
        ({"patience": 0}, "patience must be at least 1 or None, not 0"),
        ({"best_by": "luck"}, "best_by must be objective or loss, not 'luck'"),
        ({"clip_norm": 0.0}, "clip_norm must be positive or None, not 0.0"),
        ({"initial_weights": "ones"}, "initial_weights must be zeros or xavier, not 'ones'"),
    ],
)
def test_ways_of_training_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError) as raised:
        BankTraining(**changes)
    assert str(raised.value) == message


def test_a_published_configuration_is_trained_as_published_and_others_as_the_study_says():
    assert training_of("paper", 256) is PAPER_TRAINING and PAPER_TRAINING.batch_size == 24
    assert training_of("", 32) == BankTraining(batch_size=32)
