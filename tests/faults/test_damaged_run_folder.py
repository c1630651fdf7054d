"""A file of the run folder is damaged: one line that names it and the remedy, and nothing else is touched."""

import hashlib
import json

import pytest

from cohort.errors import InputError
from study import Study
from study.cli import main
from study.tracked_analysis import record_test_access
from study.tracked_study import tracked_study
from study.tracking import StudyTracker
from tests.faults.conftest import only_line, study_file
from tests.faults.harms import cut, deleted, emptied, flipped, holding
from tests.study.test_driver import mlflow_children


def contents(study):
    """Digests of all files of a run folder but the lock, which a driver that is refused writes to."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in study.folder.path.rglob("*")
        if path.is_file() and path != study.folder.lock_file
    }


@pytest.mark.parametrize(
    ("file", "harm", "command", "remedy"),
    [
        ("banks/bank-0003.safetensors", cut, "run", "delete it and resume the study"),
        ("banks/bank-0003.safetensors", emptied, "run", "delete it and resume the study"),
        ("banks/bank-0003.safetensors", flipped, "run", "delete it and resume the study"),
        ("banks/bank-0003.safetensors", flipped, "show", "delete it and resume the study"),
        ("banks/bank-0003.json", cut, "run", "delete it and resume the study"),
        ("banks/bank-0003.json", holding(b'{"configurations": []}'), "run", "delete it and resume the study"),
        ("inputs.json", cut, "run", "put back the one that the study's run in MLflow keeps"),
        ("inputs.json", emptied, "run", "put back the one that the study's run in MLflow keeps"),
        ("inputs.json", holding(b"[]"), "run", "put back the one that the study's run in MLflow keeps"),
        ("inputs.json", holding(b"\xff{}"), "run", "put back the one that the study's run in MLflow keeps"),
        ("inputs.json", holding(b"{}"), "run", "put back the one that the study's run in MLflow keeps"),
        ("study.yaml", cut, "run", "put back the one that the study's run in MLflow keeps"),
        ("study.yaml", cut, "show", "put back the one that the study's run in MLflow keeps"),
        ("study.yaml", emptied, "show", "put back the one that the study's run in MLflow keeps"),
        ("study.yaml", deleted, "show", "no study there (study.yaml is missing)"),
        ("study.yaml", deleted, "run", "holds something that is no study"),
        ("plan.json", cut, "run", "delete it and resume the study"),
        ("plan.json", holding(b'{"configurations": 24, "bank_size": "3"}'), "run", "delete it and resume"),
        ("baselines/logreg.safetensors", cut, "show", "delete it and resume the study"),
        ("baselines/logreg.safetensors", flipped, "run", "delete it and resume the study"),
        ("answer.safetensors", cut, "show", "delete it and resume the study"),
        ("answer.safetensors", flipped, "show", "delete it and resume the study"),
        ("repeats.json", holding(b'{"repeated": ['), "show", "resume the study, which writes it anew"),
        ("repeats.json", holding(b"7"), "show", "resume the study, which writes it anew"),
        ("repeats.json", holding(b"{}"), "show", "resume the study, which writes it anew"),
        ("repeats.json", emptied, "show", "resume the study, which writes it anew"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy_and_nothing_is_touched(
    copied, capsys, file, harm, command, remedy
):
    if file == "repeats.json":
        copied.folder.repeats_file.write_text('{"repeated": [], "lines": []}')
    harm(copied.folder.path / file)
    before = contents(copied)
    arguments = ["show", str(copied.folder.path)]
    assert main(["run", str(study_file(copied)), "--resume"] if command == "run" else arguments) == 2
    error = only_line(capsys.readouterr().err)
    assert str(copied.folder.path) in error and remedy in error
    assert contents(copied) == before


@pytest.mark.parametrize("harm", [cut, emptied, flipped, holding(b"PAR1")])
def test_a_half_written_table_of_trials_is_named_and_a_sync_writes_it_anew(copied, studied, harm, capsys):
    harm(copied.folder.trials_file)
    if harm is flipped:  # somewhere in a column, where Parquet has no checksum, or in what it says of itself
        content = bytearray(copied.folder.trials_file.read_bytes())
        content[-20] ^= 255
        copied.folder.trials_file.write_bytes(content)
    with pytest.raises(InputError, match=r"trials\.parquet: damaged .*`radtune sync .*` writes it anew"):
        _ = copied.trials
    assert main(["sync", str(copied.folder.path)]) == 0
    assert "holds all 24 configurations" in capsys.readouterr().out
    assert copied.trials.equals(studied[0].trials)


def test_half_written_warm_starts_are_named(copied):
    copied.folder.warm_starts_file.write_bytes(b'{"starts": [{"epo')
    with pytest.raises(InputError, match=r"warm_starts\.json: damaged .*delete it and resume"):
        copied.folder.warm_starts()


def test_a_damaged_mlflow_store_is_named_before_anything_is_trained(copied, capfd):
    """Half of the database is gone: one line, and no pages of SQLAlchemy."""
    place = study_file(copied).parent / "mlflow.db"
    cut(place)
    before = contents(copied)
    assert main(["sync", str(copied.folder.path)]) == 2
    assert f"tracking.uri sqlite:///{place}: MLflow cannot open this store" in only_line(
        capfd.readouterr().err
    )
    assert contents(copied) == before


def test_an_access_to_the_test_split_whose_line_was_cut_off_still_counts(copied):
    """The next one has a line of its own, and MLflow is told of both."""
    openings = copied.folder.test_access_file
    openings.write_bytes(b'{"when": "2030-01-01T00:00:00+00:00", "wh')
    copied.export(study_file(copied).parent / "bundle")
    _, second = openings.read_text().splitlines()
    assert json.loads(second)["why"] == "export study of squares"
    uri, run_file = copied.config.tracking.uri, copied.folder.mlflow_run_file
    assert record_test_access(uri, run_file, openings, {}, copied.folder.report) == ""
    told = mlflow_children(copied)[0].data.tags["radtune.test_access"]
    assert told.startswith("an access whose line is damaged; ") and told.endswith("export study of squares")


def test_the_damaged_study_opens_again_when_the_file_is_put_back(copied, studied):
    file = copied.folder.path / "banks" / "bank-0003.safetensors"
    whole = file.read_bytes()
    flipped(file)
    with pytest.raises(InputError, match=r"bank-0003\.safetensors: not a whole bank file"):
        _ = Study.open(copied.folder.path).records
    file.write_bytes(whole)
    assert copied.trials.equals(studied[0].trials)


def test_the_id_of_the_studys_run_is_written_whole_or_not_at_all(copied, monkeypatch):
    """A driver that is killed while it writes leaves the former id, and not half of one."""
    copied.folder.mlflow_run_file.unlink()

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("cohort.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        StudyTracker(
            copied.config.tracking.uri,
            tracked_study(copied.config, copied.folder.identity()),
            copied.folder.mlflow_run_file,
        )
    assert not copied.folder.mlflow_run_file.exists()


def test_verify_names_every_damaged_file_of_a_run_folder_at_once(copied, capsys):
    copied.folder.repeats_file.write_text("[")
    damaged = {
        copied.folder.inputs_file: cut,
        copied.folder.trials_file: cut,
        copied.folder.journal: holding(b'["no operation"]\n7\n'),
        copied.folder.bank_file(2): flipped,
        copied.folder.asked_file(2): cut,
        copied.folder.baselines / "logreg.safetensors": flipped,
        copied.folder.answer_file: cut,
        copied.folder.plan_file: emptied,
        copied.folder.study_file: flipped,
    }
    for path, harm in damaged.items():
        harm(path)
    assert main(["verify", str(copied.folder.path)]) == 2
    error = only_line(capsys.readouterr().err)
    assert all(str(path) in error for path in [*damaged, copied.folder.repeats_file])
