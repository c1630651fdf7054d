"""Copies of a study at its `checkpoints`, on a real S3 server and in a folder."""

import shutil

import pytest
import yaml
from pyarrow import fs

from cohort.errors import InputError
from cohort.remote_files import listed
from study import Study
from study.cli import main
from study.run_folder import RunFolder
from study.study_copy import StudyCopy, restore
from tests.study.conftest import settings, square_cohort


def a_run(folder, banks=2):
    """What of a study's folder a copy is made of."""
    run = RunFolder(folder)
    run.banks.mkdir(parents=True)
    for bank in range(banks):
        run.bank_file(bank).write_text(f"bank {bank}")
    run.study_file.write_text("name: s")
    return run


def content(place):
    found = {}
    for name in listed(place):
        system, path = fs.FileSystem.from_uri(f"{place}/{name}")
        found[name] = system.open_input_stream(path).read()
    return found


def test_a_copy_holds_what_a_resume_needs(tmp_path, s3):
    run = a_run(tmp_path / "run")
    copy = StudyCopy(run, f"{s3}/s")
    copy.renew()
    run.asked_file(2).write_text("asked for a third")  # while the copy may still be written
    run.bank_file(2).write_text("bank 2")
    assert copy.close() == ""
    assert content(f"{s3}/s/study") == {
        "study.yaml": b"name: s",
        "banks/bank-0000.safetensors": b"bank 0",
        "banks/bank-0001.safetensors": b"bank 1",
        "banks/bank-0002.safetensors": b"bank 2",
        "banks/bank-0002.json": b"asked for a third",
    }
    restore(f"{s3}/s", RunFolder(tmp_path / "elsewhere"))
    assert RunFolder(tmp_path / "elsewhere").asked_file(2).read_text() == "asked for a third"
    assert [file.read_text() for file in RunFolder(tmp_path / "elsewhere").bank_files()] == [
        "bank 0",
        "bank 1",
        "bank 2",
    ]


def test_only_what_changed_travels_again(tmp_path, s3, monkeypatch):
    run = a_run(tmp_path / "run")
    sent = []
    monkeypatch.setattr(
        "study.study_copy.publish", lambda source, place: sent.append(place.rpartition("/")[2])
    )
    copy = StudyCopy(run, f"{s3}/s")
    for _ in range(2):
        assert copy.close() == ""
    assert sorted(sent) == [
        "bank-0000.safetensors",
        "bank-0001.safetensors",
        "study.yaml",
    ]


def test_a_store_that_refuses_is_tried_again_and_said_at_the_end(tmp_path, s3, monkeypatch):
    run, gone = a_run(tmp_path / "run"), [True]
    from cohort.remote_files import publish

    def sometimes(source, place):
        if gone[0]:
            raise InputError("no network")
        publish(source, place)

    monkeypatch.setattr("study.study_copy.publish", sometimes)
    copy = StudyCopy(run, f"{s3}/s")
    copy.renew()
    assert "is not up to date (no network); `radtune run STUDY.yaml --resume` renews it" in copy.close()
    gone[0] = False
    assert StudyCopy(run, f"{s3}/s").close() == "" and len(listed(f"{s3}/s/study")) == 3


def test_nothing_is_restored_over_a_study_or_from_nothing(tmp_path, s3):
    with pytest.raises(InputError, match=r"no copy of a study there \(study.yaml is missing\)"):
        restore(f"{s3}/s", RunFolder(tmp_path / "new"))
    assert StudyCopy(a_run(tmp_path / "run"), str(tmp_path / "copies")).close() == ""
    with pytest.raises(InputError, match="this study is here already; resume it without --from"):
        restore(str(tmp_path / "copies"), RunFolder(tmp_path / "run"))


@pytest.mark.slow
def test_a_study_whose_machine_was_lost_goes_on_from_its_copy_and_ends_as_if_nothing_had_happened(
    tmp_path, s3, monkeypatch, capsys
):
    square_cohort(tmp_path / "cohort")
    one = settings(tmp_path, name="squares", configurations=24) | {"checkpoints": f"{s3}/checkpoints"}
    (tmp_path / "squares.yaml").write_text(yaml.safe_dump(one))
    whole = Study.from_yaml(tmp_path / "squares.yaml").run(echo=lambda line: None)
    trials = whole.trials
    shutil.rmtree(whole.folder.path)

    # The machine is lost in mid-study: of the copy, what was there after half of the banks.
    system, path = fs.FileSystem.from_uri(f"{s3}/checkpoints/squares/study")
    names = sorted(name for name in listed(f"{s3}/checkpoints/squares/study") if "bank-" in name)
    for name in [*names[len(names) // 2 :], "answer.safetensors", "trials.parquet"]:
        system.delete_file(f"{path}/{name}")
    assert main(["run", "--resume", "--from", f"{s3}/checkpoints/squares"]) == 0
    printed = capsys.readouterr().out
    assert "resumed: 12 configurations are done already" in printed and "finished in" in printed
    again = Study.open(tmp_path / "runs" / "squares")
    assert sorted(again.records) == list(range(24))
    done = [number for number in range(24) if number < 12]
    assert again.trials["val.macro_ap"][done].equals(trials["val.macro_ap"][done])
    assert sorted(name for name in listed(f"{s3}/checkpoints/squares/study") if "bank-" in name) >= names


def test_from_needs_resume_and_no_study_file(capsys):
    assert main(["run", "--from", "somewhere"]) == 2
    assert main(["run", "--resume", "--from", "somewhere", "s.yaml"]) == 2
    assert main(["run"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "give --resume with it" in errors[0]
    assert errors[1] == errors[2] and "give either STUDY.yaml, or --resume with --from PLACE" in errors[1]
