"""What a disk did to a finished study, and what a resume makes of it: the study that nothing happened to."""

import pytest

from study import Study
from study.cli import main
from tests.faults.conftest import (
    check_equal,
    check_every_number_once,
    check_same_answer,
    only_line,
    study_file,
)
from tests.faults.harms import cut, cut_at_a_line, deleted, emptied, flipped, holding, one_line, torn

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("warm_ray")]


def resume(study: Study) -> None:
    study.run(resume=True, echo=lambda line: None)


@pytest.mark.parametrize(
    "harms",
    [
        {"optuna.journal": deleted},
        {"optuna.journal": emptied},
        {"optuna.journal": cut},
        {"optuna.journal": cut_at_a_line, "trials.parquet": cut},
        {"optuna.journal": flipped, "ended.txt": deleted},
        {"optuna.journal": one_line(b'{"op": 3}'), "driver.lock": holding(b"\xff\x00")},
        {"optuna.journal": torn, "answer.safetensors": cut, "baselines": deleted},
        {"trials.parquet": deleted, "answer.safetensors": deleted, "split-choice.safetensors": deleted},
        {"answer.safetensors": flipped, "split-choice.safetensors": emptied, "inputs.json": deleted},
        {"mlflow_run_id": deleted},
        {"mlflow_run_id": holding(b"\xff\xfe")},
        {"../../mlflow.db": deleted},
        {"../../mlflow.db": deleted, "mlflow_run_id": emptied, "tune": deleted, "environment.txt": deleted},
        {"../../cache": deleted, "baselines": deleted},
    ],
    ids=lambda harms: " and ".join(f"{file} {harm.__name__}" for file, harm in harms.items()),
)
def test_what_is_derived_from_the_bank_files_is_made_again(copied, studied, harms):
    banks = {file: file.read_bytes() for file in copied.folder.bank_files()}
    for file, harm in harms.items():
        harm(copied.folder.path / file)
    resume(copied)
    check_every_number_once(copied)
    check_equal(copied, studied[0])
    assert {file: file.read_bytes() for file in copied.folder.bank_files()} == banks
    check_same_answer(copied, studied[0])


def test_bank_files_and_the_study_file_are_enough(copied, studied):
    keep = {copied.folder.study_file, copied.folder.banks}
    for path in copied.folder.path.iterdir():
        if path not in keep:
            deleted(path)
    resume(copied)
    check_every_number_once(copied)
    check_equal(copied, studied[0])
    check_same_answer(copied, studied[0])


@pytest.mark.parametrize("harm", [cut, flipped])
def test_a_damaged_bank_file_is_deleted_as_advised_and_its_configurations_are_trained_again(
    copied, studied, harm, capsys
):
    """They keep their numbers and parameters, and no other result changes."""
    file = copied.folder.bank_file(5)
    lost = [13, 14, 15]
    harm(file)
    assert main(["run", str(study_file(copied)), "--resume"]) == 2
    assert f"{file}: not a whole bank file" in only_line(capsys.readouterr().err)
    file.unlink()
    resume(copied)
    check_every_number_once(copied)
    ours, theirs = copied.records, studied[0].records
    for number, record in theirs.items():
        assert ours[number].params == record.params
        assert number in lost or ours[number].metrics == record.metrics


def test_all_bank_files_but_one_are_gone(copied, studied):
    for file in copied.folder.bank_files()[1:]:
        file.unlink()
    resume(copied)
    check_every_number_once(copied)
    ours, theirs = copied.records, studied[0].records
    assert all(ours[number].params == theirs[number].params for number in theirs)


@pytest.mark.parametrize("harm", [cut, flipped, emptied])
def test_damaged_features_are_refused_and_computed_again_when_they_are_deleted(copied, studied, harm, capsys):
    # Other studies of the session may have left theirs beside this one's.
    every = list(study_file(copied).parent.glob("cache/embeddings-*/features.arrow"))
    for features in every:
        harm(features)
    assert main(["run", str(study_file(copied)), "--resume"]) == 2
    said = only_line(capsys.readouterr().err)
    assert sum(str(features) in said for features in every) == 1
    for features in every:
        deleted(features.parent)
    resume(copied)
    check_every_number_once(copied)
    check_equal(copied, studied[0])


def test_damaged_regressions_are_refused_and_fitted_again_when_they_are_deleted(copied, studied, capsys):
    file = copied.folder.baselines / "logreg.safetensors"
    flipped(file)
    assert main(["run", str(study_file(copied)), "--resume"]) == 2
    assert f"{file}: not a whole bank file" in only_line(capsys.readouterr().err)
    file.unlink()
    resume(copied)
    check_every_number_once(copied)
    assert copied.folder.logreg() == studied[0].folder.logreg()
    check_same_answer(copied, studied[0])
