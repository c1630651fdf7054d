"""Tests of reading a study file: one-line refusals, `--set`, and the file that a study keeps."""

import pytest
import yaml

from cohort.errors import InputError
from study.study_file import load_config, load_stored, stored_file, validated
from tests.conftest import REPOSITORY
from tests.faults.harms import cut, emptied, flipped, holding

MINIMAL = {"name": "s", "cohort": "c", "encoder": "pixels"}


def test_cohort_and_encoder_suffice_and_the_name_is_the_files(tmp_path):
    path = tmp_path / "my-study.yaml"
    path.write_text("cohort: cohorts/x\nencoder: pixels\n")
    config = load_config(path)
    assert config.name == "my-study"
    assert config.search.configurations == 256
    assert config.search.objective == "macro_ap"


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


@pytest.mark.parametrize("harm", [cut, emptied, flipped, holding(b"name: s\ncohort: c\nencoder: pixels\n")])
def test_what_a_study_kept_of_its_settings_is_whole_or_refused(tmp_path, harm):
    """Half of it is YAML, and a study: with the defaults for all that is missing."""
    path = tmp_path / "study.yaml"
    config = validated(MINIMAL | {"analysis": {"top": 5}})
    path.write_bytes(stored_file(config))
    assert load_stored(path) == load_config(path) == config
    assert load_stored(path, ["analysis.top=2"]).analysis.top == 2
    harm(path)
    with pytest.raises(InputError, match=r"study\.yaml: not what the study wrote"):
        load_stored(path)


def test_a_study_cut_at_any_byte_is_refused(tmp_path):
    path = tmp_path / "study.yaml"
    whole = stored_file(validated(MINIMAL))
    for length in range(len(whole) - 1):  # the last byte ends the line
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="not what the study wrote"):
            load_stored(path)
