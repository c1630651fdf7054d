"""Tests of a whole fine-tuning study on real Ray: a miniature ViT with random weights, few epochs a trial."""

import re
import shutil

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from optuna.trial import TrialState

from cohort.errors import InputError
from cohort.manifest import Cohort
from study import Study
from study.lock import driver_lock
from study.progress import describe_run
from study.run_folder import RunFolder
from study.study_runs import NUMBER_TAG
from tests.study.conftest import settings, square_cohort
from tests.study.test_driver import journal_trials, mlflow_children
from tests.trainables.towers import build_tower
from trainables import checkpoints
from trainables.checkpoints import CheckpointFolder
from trainables.fine_tune_state import BEST, CHECKPOINT
from vlm.bundle import Bundle

CONFIGURATIONS = 6


def fine_tune_settings(folder, **changes):
    config = settings(
        folder,
        name="tuned",
        configurations=CONFIGURATIONS,
        ranges={"last_blocks": {"low": 1, "high": 2}},
        fixed={"epochs": 3},
    )
    return (
        config
        | {
            "encoder": f"local-dir:{folder}/vit",
            "trainable": "fine_tune",
            "fine_tune": {"training": {"batch_size": 16}, "keep": 1, "grace_epochs": 1, "precision": "fp32"},
        }
        | changes
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine-tune")
    square_cohort(folder / "cohort")
    build_tower("vit", folder / "vit")
    lines: list[str] = []
    return Study.from_dict(fine_tune_settings(folder)).run(echo=lines.append), lines


def test_every_configuration_stands_once_in_journal_table_and_mlflow(tuned):
    study, _ = tuned
    expected = list(range(CONFIGURATIONS))
    assert [trial.number for trial in journal_trials(study)] == expected
    table = pd.read_parquet(study.folder.trials_file)
    assert table["number"].tolist() == expected
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
    _, children = mlflow_children(study)
    assert len(children) == CONFIGURATIONS
    assert all(run.data.metrics["trained_parameters"] > 0 for run in children)
    for run in children:
        record = study.records[int(run.data.tags[NUMBER_TAG])]
        client = MlflowClient(study.config.tracking.uri)
        for name in ("train_loss", "objective", "images_per_second", "data_wait_share"):
            history = client.get_metric_history(run.info.run_id, f"curve.{name}")
            assert [(point.step, point.value) for point in history] == [
                (point["epoch"], pytest.approx(point[name])) for point in record.curve
            ]
        assert run.data.metrics["curve.peak_device_memory_mb"] > 0


def test_each_method_is_among_the_first_and_the_papers_runs_to_its_end(tuned):
    study, _ = tuned
    records = study.records
    methods = [records[number].params["method"] for number in range(1, 5)]
    assert sorted(methods) == ["bitfit", "full", "last_blocks", "lora"]
    assert records[0].state == "COMPLETE"
    assert records[0].params["method"] == "full"


def test_the_ranking_shows_what_fine_tuning_varies(tuned):
    study, _ = tuned
    header, first = describe_run(study.folder).splitlines()[4:6]
    assert header.split()[3:10] == [
        "method",
        "tower_rate",
        "head_learning_rate",
        "epochs",
        "loss",
        "augmentation",
        "init_head",
    ]
    assert "layer_decay" in header  # searched, and not the same in all
    best = study.best
    assert first.split()[0] == str(best.number) and first.split()[3] == best.params["method"]
    assert float(first.split()[4]) > 0


def test_disk_use_is_said_before_the_start_and_kept(tuned):
    study, lines = tuned
    assert any("checkpoints take at most" in line for line in lines[:6])
    kept = {path.name for path in study.folder.checkpoints.iterdir()}
    assert kept - {"answer"} == {"trial-0000", f"trial-{study.best.number:04d}"}
    for number in (0, study.best.number):
        assert not CheckpointFolder(study.folder.checkpoints, number).resume_points()


def trained_together(study):
    """Whether the study's answer is more than its best trial."""
    return (study.folder.checkpoints / "answer").exists()


def test_the_last_lines_say_what_the_kept_towers_give_together(tuned):
    study, lines = tuned
    (said,) = [line for line in lines if line.startswith("final model: best trial")]
    assert (
        f"best trial macro_ap {study.best.objective:.3f}; tower of {study.best.number}, head fitted" in said
    )
    tried, best = float(said.rsplit(" ", 1)[1]), study.best.objective  # the former to three digits
    assert tried > best - 5e-4 if trained_together(study) else tried < best + 5e-4
    assert trained_together(study) != any("itself, which none of 4 improved" in line for line in lines)


def test_the_exported_tower_is_plain_open_clip_and_predicts_what_was_reported(tuned, tmp_path):
    study, _ = tuned
    result = study.analyze(["scores"])
    assert {"paper", "best-1"} <= set(result.scores["setting"])
    bundle = study.export(tmp_path / "bundle")
    reported = pd.read_parquet(study.folder.analysis / "test_predictions.parquet")
    answered = "study" if trained_together(study) else "best-1"
    reported = reported[reported["setting"] == answered].reset_index()
    cohort = Cohort.open(study.config.cohort)
    files = dict(zip(cohort.column("image"), cohort.column("file"), strict=True))
    images = [cohort.images_root / files[image] for image in reported["image"]]
    predicted = Bundle.load(bundle).predict(images).to_pandas()
    for label in cohort.labels:
        name = f"probability.{label}"
        np.testing.assert_allclose(predicted[name], reported[name], atol=1e-5, rtol=0)

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{bundle / 'encoder'}")
    from PIL import Image

    with torch.no_grad():
        features = model.eval().encode_image(transform(Image.open(images[0]))[None]).numpy()
    (head,) = Bundle.load(bundle).predictor.heads
    logits = head.logits(features)[0]
    np.testing.assert_allclose(
        1 / (1 + np.exp(-logits)), [reported[f"probability.{label}"][0] for label in cohort.labels], atol=1e-4
    )


def test_what_is_passed_on_does_not_say_where_things_lie(tuned, tmp_path):
    """Reports, tables, the card and the bundle: of all places this study's are below one folder."""
    study, _ = tuned
    place = str(study.folder.path.parents[1])
    study.analyze()
    bundle = study.export(tmp_path / "bundle")
    passed_on = [
        path for folder in (study.folder.analysis, bundle) for path in folder.rglob("*") if path.is_file()
    ]
    assert {"report.html", "test_scores.csv", "README.md", "bundle.json"} <= {path.name for path in passed_on}
    assert not [path for path in passed_on if place.encode() in path.read_bytes()]
    assert "local-dir:vit" in (bundle / "README.md").read_text()


def test_weights_of_another_epoch_than_the_record_are_refused(tuned, tmp_path):
    study, _ = tuned
    file = CheckpointFolder(study.folder.checkpoints, study.best.number).best / BEST
    whole = file.read_bytes()
    tensors, description = checkpoints.read(file)
    try:
        checkpoints.write(
            file, tensors | {"linear_head/bias_C": tensors["linear_head/bias_C"] + 1}, description
        )
        with pytest.raises(InputError, match=f"weights of trial {study.best.number} are of another epoch"):
            study.export(tmp_path / "bundle", trial=study.best.number)
        file.write_bytes(whole[:-1])
        with pytest.raises(
            InputError, match=f"weights of trial {study.best.number} are not there or damaged"
        ):
            study.export(tmp_path / "bundle", trial=study.best.number)
    finally:
        file.write_bytes(whole)


def test_a_study_that_is_compared_with_must_have_finished(tuned, tmp_path):
    study, _ = tuned
    other = shutil.copytree(study.folder.path, tmp_path / "other")
    compared = {"compare_with": str(other)}
    again = Study(
        study.config.model_copy(update={"analysis": study.config.analysis.model_copy(update=compared)})
    )
    with (
        driver_lock(RunFolder(other).lock_file),
        pytest.raises(InputError, match=r"analysis\.compare_with: .*still runs"),
    ):
        again.judgement()


def test_a_settings_block_that_comes_or_goes_is_no_change_unless_it_says_something_else(tuned):
    study, _ = tuned
    folder = study.folder.path.parents[1]
    without = fine_tune_settings(folder) | {"fine_tune": None}
    with pytest.raises(InputError, match=r"fine_tune\.training\.batch_size: this study already ran with 16"):
        Study.from_dict(without).run(resume=True)


def test_the_published_configuration_is_exported_as_published_whatever_its_rank(tuned, tmp_path):
    study, _ = tuned
    rule = Bundle.load(study.export(tmp_path / "paper", trial=0)).predictor.rule
    assert rule.strategy == "fixed" and (rule.thresholds_C == 0.5).all() and not rule.shared_C.any()


@pytest.mark.slow
def test_a_trial_that_cannot_go_on_fails_alone_and_says_why(tmp_path):
    square_cohort(tmp_path / "cohort")
    build_tower("vit", tmp_path / "vit")
    # A step of 1 that takes 10,000 times the weight off itself: they grow until they are no numbers.
    harsh = {"fixed": {"head_learning_rate": 1.0, "weight_decay": 1e4, "epochs": 10, "method": "bitfit"}}
    config = fine_tune_settings(tmp_path)
    config["fine_tune"] |= {"early_stopping": "none", "training": {"batch_size": 16, "patience": None}}
    config["search"] |= harsh | {"configurations": 1, "ranges": {}}
    Study.from_dict(config).run(echo=lambda line: None)

    config["search"] |= {"configurations": 3}
    study, lines = Study.from_dict(config), []
    resume_point = CheckpointFolder(study.folder.checkpoints, 1).resume_point(2)
    resume_point.mkdir(parents=True)
    (resume_point / CHECKPOINT).write_bytes(b"torn")
    study.run(resume=True, echo=lines.append)

    records = study.records
    assert [records[number].state for number in range(3)] == ["COMPLETE", "FAIL", "FAIL"]
    assert any(line.startswith(f"#1: {resume_point}") and line.endswith("; began anew") for line in lines)
    _, children = mlflow_children(study)
    logged = {int(run.data.tags[NUMBER_TAG]): run for run in children}
    for number in (1, 2):
        reason = logged[number].data.tags["radtune.reason"]
        assert re.search(
            r"diverged: .* in step \d+ \(epoch \d+\) at learning rate .* and .* of the head", reason
        )
        assert logged[number].info.status == "FAILED"
        assert any(line == f"#{number} failed: {reason}" for line in lines)
    assert str(resume_point) in logged[1].data.tags["radtune.warnings"]
    assert journal_trials(study)[2].state == TrialState.FAIL


def test_a_gpu_where_there_is_none_is_refused(tmp_path):
    square_cohort(tmp_path / "cohort")
    build_tower("vit", tmp_path / "vit")
    config = fine_tune_settings(tmp_path, resources={"gpus": 99})
    with pytest.raises(InputError, match=r"resources\.gpus: 99 asked for, but this machine has \d+"):
        Study.from_dict(config).run(echo=lambda line: None)


def test_a_method_that_does_not_fit_the_tower_is_refused_before_anything_starts(tmp_path):
    square_cohort(tmp_path / "cohort")
    build_tower("vit", tmp_path / "vit")
    config = fine_tune_settings(tmp_path)
    config["search"] |= {"fixed": {"method": "lora", "lora_targets": "no_such_layer"}, "ranges": {}}
    with pytest.raises(InputError, match="no_such_layer"):
        Study.from_dict(config).run()
    config["search"] |= {"fixed": {}}
    with pytest.raises(InputError, match="pixels"):
        Study.from_dict(config | {"encoder": "pixels"}).run()
