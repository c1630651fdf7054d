"""Tests of a whole study on real Ray and a real MLflow store."""

import json
import re
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState
from ray import tune

from analysis.inside.sections import overlay
from analysis.section import Picture
from cohort.errors import InputError
from cohort.manifest import Cohort
from search_spaces import linear_probe as space
from study import Study, inputs
from study.cli import main
from study.config import StudyConfig
from study.inputs import development_data
from study.journal import shown_journal
from study.progress import describe_run, status
from study.run_folder import RunFolder
from study.study_runs import NUMBER_TAG
from study.warm_start import earlier_starts
from tests.study.conftest import LABELS, copy_of, settings, square_cohort
from trainables.baselines import LOGREG, LOGREG_DEEP
from trainables.ranking import ranking
from vlm.bundle import Bundle
from vlm.embeddings import Embeddings, embed
from vlm.encoders import load_encoder

pytestmark = pytest.mark.usefixtures("warm_ray")
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Broken(tune.Trainable):
    """As where a worker cannot import what it needs."""

    def step(self):
        raise RuntimeError("broken")


def journal_trials(study):
    storage = shown_journal(study.folder.journal)
    return optuna.load_study(study_name=study.config.name, storage=storage).trials


def mlflow_children(study):
    client = MlflowClient(study.config.tracking.uri)
    parent = (study.folder.path / "mlflow_run_id").read_text().strip()
    runs = client.search_runs(
        [client.get_run(parent).info.experiment_id],
        filter_string=f"tags.`mlflow.parentRunId` = '{parent}'",
        max_results=1000,
    )
    return client.get_run(parent), runs


def test_the_log_of_a_run_holds_each_line_that_was_said_once(studied):
    study, lines = studied
    logged = [line.partition(" radtune: ")[2] for line in study.folder.log_file.read_text().splitlines()]
    said = [line for line in lines if " configurations · " in line]
    assert said and all(logged.count(line) == 1 for line in said)


def test_every_configuration_stands_once_in_journal_table_and_mlflow(studied):
    study, _ = studied
    expected = list(range(24))
    assert sorted(trial.number for trial in journal_trials(study)) == expected
    assert pd.read_parquet(study.folder.trials_file)["number"].tolist() == expected
    _, children = mlflow_children(study)
    assert sorted(int(run.data.tags[NUMBER_TAG]) for run in children) == expected


def test_states_and_scores_agree_in_all_three(studied):
    study, _ = studied
    table = pd.read_parquet(study.folder.trials_file).set_index("number")
    told = {trial.number: trial for trial in journal_trials(study)}
    _, children = mlflow_children(study)
    logged = {int(run.data.tags[NUMBER_TAG]): run for run in children}
    for number, row in table.iterrows():
        assert row["state"] == logged[number].data.tags["radtune.state"]
        assert row["mlflow_run_id"] == logged[number].info.run_id
        if number == 0:  # published, and judged on the given split: on no scale of the others'
            assert (told[0].state.name, told[0].value) == ("PRUNED", None)
            assert np.isnan(row["val.macro_ap"]) and "val.macro_ap" not in logged[0].data.metrics
            continue
        assert told[number].state.name == row["state"]
        if row["state"] == "COMPLETE":
            assert told[number].value == pytest.approx(row["val.macro_ap"])
            assert logged[number].data.metrics["val.macro_ap"] == pytest.approx(row["val.macro_ap"])
    assert (table["state"] == "COMPLETE").any()
    best = max((trial for trial in told.values() if trial.value is not None), key=lambda trial: trial.value)
    assert best.number == study.best.number


def test_the_papers_configuration_is_trial_0_and_is_never_pruned(studied):
    study, _ = studied
    record = study.records[0]
    assert record.params == space.PAPER
    assert record.state == "COMPLETE"


def test_the_parent_run_says_what_was_run(studied):
    study, _ = studied
    parent, children = mlflow_children(study)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["radtune.encoder"] == "pixels"
    assert parent.data.metrics["configurations"] == 24
    assert parent.data.metrics["val.study"] == pytest.approx(study.folder.answer().objective)
    artifacts = {
        Path(file.path).name
        for file in MlflowClient(study.config.tracking.uri).list_artifacts(parent.info.run_id)
    }
    assert artifacts >= {"study.yaml", "inputs.json", "environment.txt", "answer.safetensors"}
    run = next(run for run in children if run.data.tags[NUMBER_TAG] == "0")
    assert run.data.params["learning_rate"] == "0.0001"
    assert run.data.tags["radtune.loss"] == "bce"
    assert run.data.tags["radtune.cohort_hash"] == parent.data.tags["radtune.cohort_hash"]


def test_the_lines_say_how_far_it_is_and_against_what(studied):
    _, lines = studied
    text = "\n".join(lines)
    assert re.search(r"24/24 configurations · best macro_ap 0\.\d+ \(#\d+\) · logreg 0\.\d+", text)
    assert re.search(r"about \d+ s left", text)
    assert "120 training and validation images in 5 folds of patients" in text
    assert re.search(r"final model: .* out-of-fold scores: macro_ap 0\.\d+, 0\.\d+ chosen anew", text)


def test_the_answer_is_of_the_best_by_out_of_fold_score_and_of_plain_regressions(studied):
    study, _ = studied
    answer, records = study.folder.answer(), study.records
    finalists = {record.number for record in ranking(records.values())[:40]}
    assert {member.trial for member in answer.members} <= finalists | {-1}
    assert 0 not in {member.trial for member in answer.members}  # the published one is judged elsewhere
    assert sum(member.weight for member in answer.members) == pytest.approx(1)
    assert answer.objective >= 0.95 * study.best.objective
    assert LOGREG in study.folder.baseline_records() and LOGREG_DEEP not in study.folder.baseline_records()


def test_the_answer_is_the_weighted_average_of_its_members_heads(studied):
    """To 1e-5 of the spread of its logits: one linear head says what its members' average says."""
    study, _ = studied
    answer = study.folder.answer()
    grid = {f"logreg C={one.params['C']:g}": one for one in study.folder.baseline_records()[LOGREG]}
    heads = {f"trial {number}": record for number, record in study.records.items()} | grid
    cohort = Cohort.open(study.config.cohort)
    features_ND = embed(cohort, load_encoder("pixels"), cache=study.config.cache).features_ND
    summed_NC = sum(
        member.weight * member.slope * heads[member.name].head.logits(features_ND).astype(np.float64)
        for member in answer.members
    )
    one_NC = np.mean([head.logits(features_ND).astype(np.float64) for head in answer.heads], axis=0)
    intercept_C = (one_NC - summed_NC).mean(axis=0)
    np.testing.assert_allclose(one_NC, summed_NC + intercept_C, rtol=0, atol=1e-5 * one_NC.std())


def test_what_the_given_split_would_have_chosen_is_trained_on_training_alone(studied):
    study, _ = studied
    choice = study.folder.split_choice()
    assert choice.fold_objectives == [] and choice.state == "COMPLETE"
    record = study.records[choice.number]
    assert choice.params == record.params and choice.objective != record.objective


def test_each_row_is_held_against_images_that_it_did_not_see(studied):
    study, _ = studied
    judgement = study.judgement()
    assert judgement.best == "answer" and judgement.cross_validated
    cohort, rows_N = judgement.cohort, judgement.predictions.images.judged_N
    # Development rows are training images first, the table's in the order of the manifest.
    order_N = np.argsort(np.concatenate([cohort.indices("train"), cohort.indices("val")]))
    held_out_NC = study.folder.answer().held_out_MC[order_N]
    np.testing.assert_array_equal(judgement.answer.val_scores_NC, held_out_NC)
    regression = ranking(study.folder.baseline_records()[LOGREG])[0]
    np.testing.assert_array_equal(judgement.row(LOGREG).val_scores_NC, regression.held_out_MC[order_N])
    best = next(row for row in judgement.rows if row.name == "best-1")
    np.testing.assert_array_equal(best.val_scores_NC, study.best.held_out_MC[order_N])
    # The published configuration was trained on the training split: of that it has no honest score.
    on_training = np.isin(rows_N, cohort.indices("train"))
    for row in judgement.rows:
        if row.name in ("paper", "split-best"):
            np.testing.assert_array_equal(np.isnan(row.val_scores_NC).all(axis=1), on_training)
    gap = judgement.shown(judgement.gap).set_index("setting")
    assert np.isfinite(gap.loc[["study", "best-1", "paper", "split-best", "logreg", "pixels"], "gap"]).all()


def test_overlaid_images_go_through_the_studys_own_cache_and_its_own_encoder(studied):
    """Raw pixels see every letter; what is measured is said, drawn and kept."""
    study, _ = studied
    models = study.models(study.judgement())
    section = overlay.run(models)
    table = section.tables["overlay"]
    assert list(table.columns[:6]) == ["setting", "metric", "label", "value", "low", "high"]
    assert set(table["setting"]) == {"frozen", "study"}
    averages = table[(table["text"] == "") & (table["label"] == "")].set_index(
        ["setting", "metric", "overlay"]
    )
    assert averages.loc[("frozen", "shift", "text"), "value"] > 0
    assert 0 <= averages.loc[("study", "flips", "text"), "value"] <= 1
    assert set(table[table["label"] != ""]["metric"]) == {"named_change", "named_to", "named_away"}
    assert "burned into 40 test images" in section.parts[0].text
    assert {part.name for part in section.parts if isinstance(part, Picture)} == {"overlay", "overlay_images"}
    cache = Path(study.config.cache)
    shards = {path: path.stat().st_mtime_ns for path in cache.glob("altered-*/shard-*.arrow")}
    again = overlay.run(models).tables["overlay"]
    assert {path: path.stat().st_mtime_ns for path in cache.glob("altered-*/shard-*.arrow")} == shards
    np.testing.assert_array_equal(again["value"], table["value"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_answer_to_the_last_bit(tmp_path):
    """Wide features too, which are decomposed before anything runs beside it."""
    square_cohort(tmp_path / "cohort")
    packed = []
    for name in ("first", "second"):
        config = settings(tmp_path, name=name, configurations=16) | {"encoder": "phantom-clip"}
        study = Study.from_dict(config).run(echo=lambda line: None)
        packed.append(study.folder.answer_file.read_bytes())
        assert {LOGREG, LOGREG_DEEP} <= set(study.folder.baseline_records())
    assert packed[0] == packed[1]


@pytest.fixture(scope="module")
def by_split(studied, tmp_path_factory) -> tuple[Study, list[str]]:
    """The same study, chosen by the given split."""
    given = settings(tmp_path_factory.mktemp("by-split"), configurations=8, selection="split")
    given |= {"cohort": studied[0].config.cohort, "cache": studied[0].config.cache}
    lines: list[str] = []
    return Study.from_dict(given).run(echo=lines.append), lines


def test_a_study_by_the_given_split_repeats_its_finalists_and_has_the_best_for_its_answer(by_split):
    study, lines = by_split
    assert any("finalists trained again" in line for line in lines)
    assert any(re.search(r" · paper 0\.\d+ · logreg 0\.\d+", line) for line in lines)
    found = json.loads(study.folder.repeats_file.read_text())
    assert found["repeated"][0]["number"] == study.best.number
    for one in found["repeated"]:
        assert len(one["seeds"]) == len(one["splits"]) == 5
        assert all(0 < value <= 1 for value in one["seeds"] + one["splits"])
    assert study.folder.answer() is None
    assert not any(record.fold_objectives for record in study.records.values())
    answer = study.judgement().answer
    assert (answer.name, answer.role) == ("best-1", "answer")


def test_a_study_begun_by_the_given_split_is_not_resumed_by_cross_validation(by_split):
    study, _ = by_split
    given = study.config.model_dump(mode="json")
    given["search"]["selection"] = "cross_validation"
    with pytest.raises(
        InputError,
        match=r"search\.selection: this study already ran with 'split', so it cannot be resumed with "
        "'cross_validation'",
    ):
        Study.from_dict(given).run(resume=True)


def test_a_second_run_of_the_same_study_is_refused_with_the_remedy(studied):
    study, _ = studied
    with pytest.raises(InputError, match=r"exists already; continue it with --resume"):
        study.run()


def test_a_resume_that_changes_what_ran_is_refused(studied):
    study, _ = studied
    folder = Path(study.config.storage).parent
    with pytest.raises(InputError, match=r"search\.seed: this study already ran with 0"):
        Study.from_dict(settings(folder, seed=1)).run(resume=True)


def test_a_resume_on_another_cohort_is_refused(studied, tmp_path):
    study, _ = studied
    manifest = Path(study.config.cohort) / "cohort.parquet"
    original = manifest.read_bytes()
    square_cohort(tmp_path / "cohort", images=32, seed=1)
    manifest.write_bytes((tmp_path / "cohort" / "cohort.parquet").read_bytes())
    try:
        with pytest.raises(InputError, match="cohort_hash is no longer what the study ran with"):
            study.run(resume=True)
    finally:
        manifest.write_bytes(original)


def test_a_finished_study_is_extended_and_what_mlflow_lost_is_logged_again(studied, tmp_path):
    first = copy_of(studied[0], tmp_path / "project")
    values = {number: record.objective for number, record in first.records.items()}
    _, children = mlflow_children(first)
    MlflowClient(first.config.tracking.uri).delete_run(children[0].info.run_id)

    wanted = settings(tmp_path / "project", configurations=27)
    study = Study.from_dict(wanted).run(resume=True, echo=lambda line: None)
    assert sorted(study.records) == list(range(27))
    assert {number: study.records[number].objective for number in values} == values
    assert all(trial.state != TrialState.RUNNING for trial in journal_trials(study))
    _, children = mlflow_children(study)
    assert sorted(int(run.data.tags[NUMBER_TAG]) for run in children) == list(range(27))


def test_a_folder_that_holds_no_study_is_not_overwritten(tmp_path):
    square_cohort(tmp_path / "cohort", images=16)
    (tmp_path / "runs" / "squares").mkdir(parents=True)
    (tmp_path / "runs" / "squares" / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds something that is no study"):
        Study.from_dict(settings(tmp_path)).run()


def test_trials_see_no_row_of_the_test_split(tmp_path):
    cohort = square_cohort(tmp_path / "cohort")
    features_ND = np.arange(len(cohort.present), dtype=np.float32)[:, None] + np.zeros(4, np.float32)
    embeddings = Embeddings(features_ND, "key", "fp32", tmp_path, True)
    seen = set(development_data(cohort, embeddings, seed=0).features_ND[:, 0])
    assert not seen & set(cohort.indices("test").astype(float))
    assert len(seen) == len(cohort.indices("train")) + len(cohort.indices("val"))


@pytest.mark.slow
def test_the_time_budget_counts_from_the_start_and_is_named_when_it_ends_the_search(tmp_path):
    square_cohort(tmp_path / "cohort", images=80)
    config = settings(tmp_path, configurations=2, time_budget=0.01)
    study, lines = Study.from_dict(config), []
    study.run(echo=lines.append)
    assert re.match(
        r"time budget of 0\.01 s reached, ended in \d+ s: no configuration completed \(none has ended\); "
        r"give it more",
        lines[-1],
    )
    shown = describe_run(study.folder)
    assert "squares: time budget of 0.01 s reached, 0/2 configurations" in shown
    assert "continue it with `radtune run STUDY.yaml --resume`" in shown
    # With enough of it the study is finished like any other.
    config["search"]["time_budget"] = 600
    Study.from_dict(config).run(resume=True, echo=lines.append)
    assert lines[-1].startswith("finished in") and "squares: finished, 2/2" in describe_run(study.folder)


@pytest.mark.parametrize("relative", ["cohort", "storage", "cache", "checkpoints", "tracking"])
def test_a_relative_path_inside_rays_snapshot_is_refused_by_its_key(tmp_path, monkeypatch, relative):
    """`ray job submit` starts the driver there, and Ray deletes it."""
    snapshot = tmp_path / "runtime_resources" / "working_dir_files"
    snapshot.mkdir(parents=True)
    monkeypatch.chdir(snapshot)
    places = {key: f"/data/{key}" for key in ("cohort", "storage", "cache", "checkpoints")}
    given = {"name": "s", "encoder": "pixels", **places, "tracking": {"uri": "sqlite:////data/mlflow.db"}}
    given |= {relative: {"uri": "sqlite:///mlflow.db"} if relative == "tracking" else "here"}
    key = "tracking.uri" if relative == "tracking" else relative
    with pytest.raises(InputError, match=rf"^{key}: .*disposable snapshot .* give an absolute path"):
        Study.from_dict(given).run()


def test_a_study_begins_with_the_best_of_an_earlier_one(studied, tmp_path):
    earlier, _ = studied
    config = earlier.config.model_dump(mode="json")
    config |= {"name": "later", "storage": str(tmp_path / "runs")}
    config["search"] |= {"configurations": 6, "warm_start": str(earlier.folder.path), "fixed": {"epochs": 3}}
    lines = []
    later = Study.from_dict(config).run(echo=lines.append)
    ranked = [record for record in ranking(earlier.records.values())][:5]
    taken = [later.records[number].params for number in range(1, 6)]
    assert taken == [record.params | {"epochs": 3} for record in ranked]
    assert any(
        f"begins with the 16 best of {earlier.folder.path}, trained again here" in one for one in lines
    )
    tuning = StudyConfig.model_validate(config | {"trainable": "fine_tune", "search": {"warm_start": "x"}})
    with pytest.raises(InputError, match=r"search\.warm_start: x: no study there"):
        earlier_starts(tuning, RunFolder(tmp_path / "new"), list)
    tuning = tuning.model_copy(
        update={"search": tuning.search.model_copy(update={"warm_start": str(earlier.folder.path)})}
    )
    with pytest.raises(InputError, match="its trainable is linear_probe, whose space is another"):
        earlier_starts(tuning, RunFolder(tmp_path / "new"), list)
    same = StudyConfig.model_validate(config)
    with pytest.raises(InputError, match=r"none of its \d+ completed configurations lies inside this study"):
        earlier_starts(same, RunFolder(tmp_path / "new"), lambda starts: [])


@pytest.mark.slow
def test_a_moved_project_is_resumed_and_analysed_where_it_lies_now(tmp_path, monkeypatch):
    (tmp_path / "before").mkdir()
    monkeypatch.chdir(tmp_path / "before")
    square_cohort(tmp_path / "before" / "cohort")
    relative = settings(Path("."), configurations=9) | {"tracking": {"uri": "sqlite:///mlflow.db"}}
    Study.from_dict(relative).run(echo=lambda line: None)
    stored = (tmp_path / "before" / "runs" / "squares" / "study.yaml").read_text()
    assert str(tmp_path) not in stored

    monkeypatch.chdir(tmp_path)
    (tmp_path / "before").rename(tmp_path / "after")
    moved = Study.open("after/runs/squares")
    assert moved.folder.path == tmp_path / "after" / "runs" / "squares"
    assert moved.analyze().report == tmp_path / "after" / "runs" / "squares" / "analysis" / "report.html"
    assert not (tmp_path / "before").exists()
    moved.run(resume=True, echo=lambda line: None)
    assert sorted(Study.open("after/runs/squares").records) == list(range(9))
    assert not (tmp_path / "before").exists()


def test_a_study_stored_elsewhere_is_opened_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    square_cohort(tmp_path / "project" / "cohort", images=32)
    given = settings(Path("."), configurations=1) | {"storage": str(tmp_path / "scratch")}
    monkeypatch.setattr("study.driver.Driver.drive", lambda self: None)  # stored before anything is trained
    study = Study.from_dict(given | {"tracking": {"uri": "sqlite:///mlflow.db"}}).run(echo=lambda line: None)
    monkeypatch.chdir(tmp_path)
    assert Study.open(study.folder.path).config == study.config


def test_features_are_computed_in_the_precision_that_the_study_began_with(studied, monkeypatch):
    """On a machine that is good at another one, too."""
    study, _ = studied
    asked = []

    def embed(*arguments, precision, **more):
        asked.append(precision)
        return real(*arguments, precision=precision, **more)

    real = inputs.embed
    monkeypatch.setattr(inputs, "embed", embed)
    monkeypatch.setattr("vlm.precision.multiplies_in_bf16", lambda device: True)
    assert inputs.open_inputs(study.config, study.folder).embeddings.precision == "fp32"
    assert asked == ["fp32"]


def test_an_access_is_noted_for_each_analysis_and_export_and_for_no_mistyped_section(studied, tmp_path):
    study, _ = studied

    def noted():
        return (
            study.folder.test_access_file.read_text().splitlines()
            if study.folder.test_access_file.exists()
            else []
        )

    before = len(noted())
    with pytest.raises(InputError, match="there is no section 'scors'"):
        study.analyze(["scors"])
    assert len(noted()) == before
    study.export(tmp_path / "bundle")
    assert [json.loads(line)["why"] for line in noted()[before:]] == ["export study of squares"]


def test_an_interrupted_studys_parent_run_does_not_stay_open(tmp_path, monkeypatch):
    square_cohort(tmp_path / "cohort")
    study = Study.from_dict(settings(tmp_path, configurations=1))
    monkeypatch.setattr("study.linear_probe.LinearProbeStudy.announcement", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.run(echo=lambda line: None)
    parent, _ = mlflow_children(study)
    assert parent.info.status == "KILLED"


def test_a_cohort_that_moved_is_named_anew_on_resume(studied, tmp_path):
    study = copy_of(studied[0], tmp_path / "project")
    (tmp_path / "project" / "cohort").rename(tmp_path / "elsewhere")
    moved = settings(tmp_path / "project") | {"cohort": str(tmp_path / "elsewhere")}
    Study.from_dict(moved).run(resume=True, echo=lambda line: None)
    assert Study.open(study.folder.path).config.cohort == str(tmp_path / "elsewhere")


def test_the_table_of_trials_does_not_lag_behind_the_bank_files(studied):
    study, _ = studied
    table = pd.read_parquet(study.folder.trials_file)
    table[table["number"] < 5].to_parquet(study.folder.trials_file)
    try:
        assert study.trials["number"].tolist() == list(range(24))
        assert study.trials.set_index("number")["mlflow_run_id"][2] != ""
    finally:
        table.to_parquet(study.folder.trials_file)


def test_features_in_another_precision_than_the_study_began_with_are_refused(studied):
    study, _ = studied
    inputs = json.loads(study.folder.inputs_file.read_text())
    assert inputs["precision"] == "fp32"
    study.folder.inputs_file.write_text(json.dumps(inputs | {"embeddings_key": "0" * 32}))
    try:
        with pytest.raises(InputError, match="embeddings_key is no longer what the study ran with"):
            study.analyze()
    finally:
        study.folder.inputs_file.write_text(json.dumps(inputs))


@pytest.mark.slow
def test_too_few_patients_for_dealing_them_anew_cost_nothing_but_that(tmp_path):
    """Twenty patients of training and validation: five folds of four, too few for folds within them."""
    square_cohort(tmp_path / "cohort", images=108, images_a_patient=4)
    lines: list[str] = []
    study = Study.from_dict(settings(tmp_path, configurations=4, selection="split")).run(echo=lines.append)
    assert any("patients split anew (too few patients)" in line for line in lines)
    assert all(one["splits"] == [] for one in study.folder.repeats()["repeated"])
    parent, _ = mlflow_children(study)
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_without_a_test_split_a_study_is_exported_and_its_analysis_refused(tmp_path):
    square_cohort(tmp_path / "cohort", splits=("train", "train", "val"))
    study = Study.from_dict(settings(tmp_path, configurations=4)).run(echo=lambda _: None)
    with pytest.raises(
        InputError, match="this cohort has no split 'test', only train, val; build it with one"
    ):
        study.analyze()
    bundle = study.export(tmp_path / "bundle")
    assert Bundle.load(bundle).predictor.labels == LABELS
    assert (
        "| positive images (patients) | train | val | training prevalence |"
        in (bundle / "README.md").read_text()
    )
    assert not study.folder.test_access_file.exists()


@pytest.mark.slow
def test_a_study_in_which_nothing_completes_says_so_with_the_first_reason(tmp_path, monkeypatch, capsys):
    """Workers that cannot import their code, say; the command line ends with status 1."""
    square_cohort(tmp_path / "cohort")
    monkeypatch.setattr("study.search.TRIES", 1)
    broken = tune.with_resources(Broken, {"cpu": 1})
    monkeypatch.setattr("study.linear_probe.LinearProbeStudy.trainable", lambda *_: (broken, None))
    (tmp_path / "s.yaml").write_text(json.dumps(settings(tmp_path, name="s", configurations=2)))
    assert main(["run", str(tmp_path / "s.yaml")]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"s: #0: the worker failed \(.*broken", printed)
    assert "2 configurations have no result, their workers died (#0, #1), ended in" in printed
    assert "no configuration completed (none has ended); --resume tries them again" in printed
    assert "next: radtune analyze" not in printed
    study = Study.open(tmp_path / "runs" / "s")
    assert status(study.folder)[1] == 3
    # A second time it is not the machine.
    assert main(["run", str(tmp_path / "s.yaml"), "--resume"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"no configuration completed \(2 FAIL\); #0: its worker died at every", printed)
    assert status(study.folder)[1] == 1
    with pytest.raises(InputError, match="no configuration completed"):
        study.analyze()
    assert "no configuration completed" in describe_run(study.folder)
