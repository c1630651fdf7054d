"""The line that a running study prints."""

import math
import shutil
from dataclasses import replace

from search_spaces.linear_probe import COLUMNS
from study.cli import main
from study.lock import driver_lock
from study.progress import describe_run, progress, status
from study.run_folder import RunFolder
from trainables.bank_files import pack_bank, unpack_bank
from trainables.records import TrialRecord, as_on_given_split


def record(number, objective, preset=""):
    return TrialRecord(number=number, preset=preset, params={}, state="COMPLETE", objective=objective)


def test_the_best_stands_beside_what_was_published_and_the_baseline():
    searched = [record(1, 0.5), record(2, 0.75)]
    line = progress([record(0, 0.25, "paper"), *searched], 0.625, "macro_ap")
    assert line == "best macro_ap 0.750 (#2) · paper 0.250 · logreg 0.625"
    # A space without a published configuration has none to name.
    assert progress(searched, 0.625, "macro_ap") == "best macro_ap 0.750 (#2) · logreg 0.625"
    # The baseline is still fitted, and the published configuration failed.
    failed = TrialRecord(number=0, preset="paper", params={}, state="FAIL")
    assert progress([failed, *searched], math.nan, "macro_ap") == "best macro_ap 0.750 (#2)"
    assert progress([], 0.625, "macro_ap") == "best macro_ap none yet · logreg 0.625"


def test_what_was_judged_on_another_split_stands_beside_no_out_of_fold_score():
    published = as_on_given_split(record(0, 0.9, "paper"))
    assert progress([published], 0.5, "macro_ap") == "best macro_ap none yet · logreg 0.500"
    assert progress([published, record(1, 0.6)], 0.5, "macro_ap") == (
        "best macro_ap 0.600 (#1) · logreg 0.500"
    )


def test_show_lists_a_published_configuration_apart_from_the_ranking(studied):
    shown = describe_run(studied[0].folder).splitlines()
    (apart,) = [line for line in shown if line.startswith("#0 paper, as published: macro_ap ")]
    assert "on the given validation split, over " in apart
    titles = next(place for place, line in enumerate(shown) if line.split()[:1] == ["#"])
    assert all(not line.lstrip().startswith("0 ") for line in shown[titles:])


def test_parameters_in_which_the_listed_trials_differ_have_a_column(studied, tmp_path):
    run = RunFolder(tmp_path / "squares")
    run.path.mkdir()
    shutil.copy(studied[0].folder.study_file, run.study_file)
    alike = {"epochs": 5, "threshold_shrinkage": 10.0}
    params = (alike | {"loss": "focal", "gamma": 2.0}, alike | {"loss": "bce"})
    searched = [replace(record(n, 0.6 - n / 10), params=one) for n, one in enumerate(params, start=1)]
    run.bank_file(0).parent.mkdir()
    run.bank_file(0).write_bytes(pack_bank(searched))
    lines = describe_run(run).splitlines()
    place = next(place for place, line in enumerate(lines) if line.split()[:1] == ["#"])
    titles, first, second = lines[place : place + 3]
    # Of the space's own columns these trials have two; of all others they differ in one.
    assert titles.split() == ["#", "macro_ap", "macro_auroc", *COLUMNS, "gamma"]
    assert first.split() == ["1", "0.500", "nan", "5", "focal", "2"]
    assert second.split() == ["2", "0.400", "nan", "5", "bce"]


def test_show_tells_how_far_the_trials_are_that_train_now(studied):
    folder = studied[0].folder
    folder.note_running(["#3 full: epoch 1/4, macro_ap 0.250, at most 15 s left"])
    try:
        with driver_lock(folder.lock_file):
            assert "\n#3 full: epoch 1/4" in describe_run(folder)
        assert "#3 full" not in describe_run(folder)  # left by a driver that was killed
    finally:
        folder.running_file.unlink()


def test_scripts_are_told_by_a_line_and_an_exit_code(studied, tmp_path, capsys):
    study, _ = studied
    copied = RunFolder(tmp_path / "runs" / "squares")
    shutil.copytree(study.folder.path, copied.path)
    assert status(copied) == ("finished", 0)
    with driver_lock(copied.lock_file):
        assert status(copied) == ("running", 4)
    copied.ended_file.write_text("time budget of 5 s reached")
    assert status(copied) == ("time budget of 5 s reached; continue it with --resume", 3)
    copied.ended_file.unlink()
    assert main(["show", "--status", str(copied.path)]) == 3
    assert capsys.readouterr().out == "stopped before its end; continue it with --resume\n"
    assert main(["show", "--status", str(tmp_path)]) == 2
    copied.ended_file.write_text("finished")
    for file in copied.bank_files():
        failed = [replace(record, state="FAIL", reason="broken") for record in unpack_bank(file.read_bytes())]
        file.write_bytes(pack_bank(failed))
    line, code = status(copied)
    assert code == 1 and line.startswith("no configuration completed (24 FAIL); #0: broken")
