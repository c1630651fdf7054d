"""Tests of what a resumed study may change."""

import pytest

from cohort.errors import InputError
from study.config import FineTuneSettings
from study.resumable import refuse_changes
from study.study_file import validated

MINIMAL = {"name": "s", "cohort": "c", "encoder": "pixels"}


@pytest.mark.parametrize("key", ["configurations", "time_budget"])
def test_a_resumed_study_may_grow_and_get_more_time(key):
    refuse_changes(validated(MINIMAL), validated(MINIMAL | {"search": {key: 999}}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {"seed": 1}}, r"search.seed: this study already ran with 0, .* with 1"),
        ({"search": {"fixed": {"loss": "bce"}}}, r"search.fixed"),
        ({"encoder": "phantom-clip"}, r"encoder: .*'pixels'.*'phantom-clip'"),
        ({"search": {"configurations": 8}}, r"extended but not cut to 8"),
    ],
)
def test_a_change_to_what_already_ran_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        refuse_changes(validated(MINIMAL), validated(MINIMAL | change))


def test_operating_points_are_a_measure_and_a_number_and_may_change_on_resuming():
    wanted = validated(MINIMAL | {"analysis": {"operating_points": ["sensitivity 0.95", "specificity 0.9"]}})
    assert wanted.analysis.operating_points == ["sensitivity 0.95", "specificity 0.9"]
    refuse_changes(validated(MINIMAL), wanted)
    rule = r"study: analysis\.operating_points: must be sensitivity or .*got \['sensitivity 95'\]"
    with pytest.raises(InputError, match=rule):
        validated(MINIMAL | {"analysis": {"operating_points": ["sensitivity 95"]}})


def test_a_fine_tuning_study_without_its_block_has_the_defaults_and_may_be_resumed_with_them():
    tuned = MINIMAL | {"trainable": "fine_tune"}
    assert validated(tuned).fine_tune == FineTuneSettings()
    refuse_changes(validated(tuned), validated(tuned | {"fine_tune": {"keep": 3}}))
    with pytest.raises(InputError, match=r"fine_tune.keep: this study already ran with 3, .* with 5"):
        refuse_changes(validated(tuned), validated(tuned | {"fine_tune": {"keep": 5}}))
