"""Tests of the study file: its defaults, its one-line refusals, what a resumed study may change."""

from pathlib import Path

import pytest
import yaml

from cohort.errors import InputError
from study.config import FineTuneSettings, StudyConfig, load_config, refuse_changes, validated
from tests.conftest import REPOSITORY

MINIMAL = {"name": "s", "cohort": "c", "encoder": "pixels"}


def test_cohort_and_encoder_suffice_and_the_name_is_the_files(tmp_path):
    path = tmp_path / "my-study.yaml"
    path.write_text("cohort: cohorts/x\nencoder: pixels\n")
    config = load_config(path)
    assert config.name == "my-study"
    assert config.search.configurations == 256
    assert config.search.objective == "macro_ap"


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


def test_operating_points_are_a_measure_and_a_number_and_may_change_on_resuming():
    wanted = validated(MINIMAL | {"analysis": {"operating_points": ["sensitivity 0.95", "specificity 0.9"]}})
    assert wanted.analysis.operating_points == ["sensitivity 0.95", "specificity 0.9"]
    refuse_changes(validated(MINIMAL), wanted)
    rule = r"study: analysis.operating_points: must be sensitivity or .*got \['sensitivity 95'\]"
    with pytest.raises(InputError, match=rule):
        validated(MINIMAL | {"analysis": {"operating_points": ["sensitivity 95"]}})


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "configs").glob("*.yaml")))
def test_the_shipped_study_files_are_valid(name):
    load_config(REPOSITORY / "configs" / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encodr": "x"}, r"study: unknown key encodr; did you mean encoder\?"),
        (
            {"search": {"configuration": 3}},
            r"unknown key search.configuration; did you mean configurations\?",
        ),
        (
            {"trainable": "fine_tune", "fine_tune": {"grace_epoch": 2}},
            r"unknown key fine_tune.grace_epoch; did you mean grace_epochs\?",
        ),
        (
            {"search": {"configurations": 0}},
            r"search.configurations: .*greater than or equal to 1, but got 0",
        ),
        ({"search": {"objective": "auc"}}, r"search.objective: .*'macro_ap'.*but got 'auc'"),
        ({"search": {"fixed": {"learning_rte": 1}}}, r"search: .*learning_rte.*learning_rate"),
        ({"resources": {"gpus": -1}}, r"resources.gpus: .*but got -1"),
        (
            {"tracking": {"uri": "mlruns"}},
            r"tracking.uri: must be a database or server URI .* but got 'mlruns'",
        ),
        ({"name": "../up"}, r"name: .*but got '../up'"),
        ({"name": "lung/a"}, r"name: must be at most 100 letters, digits, .*; storage .*but got 'lung/a'"),
        ({"cohort": None}, r"cohort: .*but got None"),
    ],
)
def test_a_wrong_key_or_value_is_refused_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        validated(MINIMAL | change)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match="the key encoder is missing"):
        validated({"name": "s", "cohort": "c"})


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such study file"), ("a: [", "not valid YAML"), ("- 1\n", "is a mapping of keys")],
)
def test_a_file_that_is_no_study_is_refused_with_its_name(tmp_path, content, message):
    path = tmp_path / "s.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_set_reaches_into_groups_and_reads_yaml_values(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    overrides = ["search.configurations=8", "search.fixed={loss: focal}", "search.time_budget=null"]
    config = load_config(path, overrides)
    assert config.search.configurations == 8
    assert config.search.fixed == {"loss": "focal"}
    assert config.search.time_budget is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("search.configurations", "KEY=VALUE"),
        ("name.first=3", "name is not a group"),
        ("cohort=[", "not valid YAML"),
    ],
)
def test_a_malformed_set_is_refused(tmp_path, assignment, message):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(InputError, match=message):
        load_config(path, [assignment])


def test_a_number_without_a_point_before_its_exponent_is_a_number(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "cohort: c\nencoder: pixels\nsearch: {ranges: {learning_rate: {low: 1e-3, high: 1E-1}}}\n"
    )
    config = load_config(path, ["search.fixed={weight_decay: 1e-2}"])
    assert config.search.ranges == {"learning_rate": {"low": 1e-3, "high": 0.1}}
    assert config.search.fixed == {"weight_decay": 0.01}


def test_the_file_that_is_kept_with_a_run_reads_back_as_the_same_study(tmp_path):
    config = validated(MINIMAL | {"search": {"fixed": {"loss": "bce"}, "time_budget": 3.5}})
    path = tmp_path / "study.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config


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
    ],
)
def test_settings_of_another_trainable_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        validated(MINIMAL | change)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"analysis": {"beside": "runs/a"}}, "analysis.compare_with"),
        ({"trainable": "fine_tune", "fine_tune": {"scheduler": "none"}}, "fine_tune.early_stopping"),
        ({"trainable": "fine_tune", "fine_tune": {"patience": 2}}, "fine_tune.training.patience"),
    ],
)
def test_an_old_key_is_refused_with_its_new_name(old, new):
    with pytest.raises(InputError, match=f"is called {new} now$"):
        validated(MINIMAL | old)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"patience": 0}, r"fine_tune.training: patience must be at least 1 or None, not 0$"),
        ({"patients": 3}, r"unknown key fine_tune.training.patients; did you mean patience\?"),
    ],
)
def test_a_mistake_in_a_nested_block_is_refused_in_one_line(training, message):
    with pytest.raises(InputError, match=message):
        validated(MINIMAL | {"trainable": "fine_tune", "fine_tune": {"training": training}})


def test_a_fine_tuning_study_without_its_block_has_the_defaults_and_may_be_resumed_with_them():
    tuned = MINIMAL | {"trainable": "fine_tune"}
    assert validated(tuned).fine_tune == FineTuneSettings()
    refuse_changes(validated(tuned), validated(tuned | {"fine_tune": {"keep": 3}}))
    with pytest.raises(InputError, match=r"fine_tune.keep: this study already ran with 3, .* with 5"):
        refuse_changes(validated(tuned), validated(tuned | {"fine_tune": {"keep": 5}}))


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
