"""Tests of a study's settings: defaults, rules, and how its paths move with it."""

from pathlib import Path

import pytest
import yaml

from cohort.errors import InputError
from study.config import FineTuneSettings, StudyConfig
from study.study_file import load_config, validated
from tests.conftest import REPOSITORY

MINIMAL = {"name": "s", "cohort": "c", "encoder": "pixels"}


def test_the_complete_example_states_every_key_with_its_default():
    given = yaml.safe_load((REPOSITORY / "configs" / "complete.yaml").read_text())
    default = StudyConfig.model_validate(
        {key: given[key] for key in ("name", "cohort", "encoder")}
    ).model_dump(mode="json")
    assert given == default


def test_a_stored_study_leaves_the_sections_open_so_that_one_added_since_is_in_its_report():
    raw = {"name": "a", "cohort": "c", "encoder": "pixels"}
    assert yaml.safe_load(validated(raw).to_yaml())["analysis"]["sections"] is None
    some = validated(raw | {"analysis": {"sections": ["claims", "scores"]}})
    assert some.analysis.sections == ["claims", "scores"]
    for wrong, rule in (
        (["luck"], r"analysis.sections.0: .*'scores'.*but got 'luck'"),
        ([], "at least 1 item"),
    ):
        with pytest.raises(InputError, match=rule):
            validated(raw | {"analysis": {"sections": wrong}})


def test_the_fine_tuning_example_states_every_setting_with_its_default():
    given = load_config(REPOSITORY / "configs" / "iu_xray_fine_tune.yaml")
    assert given.fine_tune == FineTuneSettings()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine_tune": {"keep": 2}}, "fine_tune holds settings of `trainable: fine_tune`"),
        ({"search": {"space": "fine_tune"}}, "search.space must be the trainable's own, linear_probe"),
        ({"trainable": "fine_tune", "search": {"fixed": {"method": "adapters"}}}, "method.*full.*'adapters'"),
        ({"trainable": "fine_tune", "search": {"fixed": {"normalisation": "l2"}}}, "normalisation"),
        ({"trainable": "fine_tune", "features": "pooled+deep"}, "must be one of projected, pooled, deep for"),
    ],
)
def test_settings_of_another_trainable_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        validated(MINIMAL | change)


def test_relative_places_are_taken_from_the_given_folder(tmp_path):
    config = validated(MINIMAL).resolved(tmp_path)
    assert config.cohort == str(tmp_path / "c")
    assert config.tracking.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert config.encoder == "pixels"
    assert config.resolved(tmp_path / "elsewhere") == config


def test_a_relative_encoder_is_found_by_workers_that_stand_elsewhere(tmp_path):
    config = validated(MINIMAL | {"encoder": "local-dir:models/clip"}).resolved(tmp_path)
    assert config.encoder == f"local-dir:{tmp_path}/models/clip"
    assert config.resolved(tmp_path / "elsewhere") == config


def test_a_stored_study_names_nothing_of_the_folder_it_lies_in(tmp_path):
    given = validated(MINIMAL | {"encoder": "local-dir:models/clip", "analysis": {"compare_with": "runs/b"}})
    stored = given.resolved(tmp_path).portable(tmp_path)
    assert str(tmp_path) not in stored.to_yaml()
    assert stored.resolved(tmp_path / "moved") == given.resolved(tmp_path / "moved")
    outside = validated(MINIMAL | {"cohort": "/data/c"}).resolved(tmp_path).portable(tmp_path)
    assert outside.cohort == "/data/c"


def test_the_folder_of_a_stored_study_is_found_from_where_it_lies_now(tmp_path):
    assert validated(MINIMAL | {"storage": "a/runs"}).root_of(tmp_path / "a" / "runs" / "s") == tmp_path
    with pytest.raises(InputError, match="looked for 2 levels above"):
        validated(MINIMAL).root_of(Path("/s"))
