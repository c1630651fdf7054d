import time
from types import SimpleNamespace

import pytest

from study.tune_callbacks import BeforeEachStep, EpochLines, ForgetBankFiles, WorkerDeaths


def trial(number, epochs=4):
    asked = {"number": number, "params": {"method": "full", "epochs": epochs}, "preset": ""}
    return SimpleNamespace(trial_id=str(number), config={"bank": number, "configurations": [asked]})


def result(epoch, done=False):
    return {"epoch": epoch, "objective": 0.25, "time_this_iter_s": 5.0, "done": done}


def test_an_epoch_is_said_with_the_time_left_the_first_at_once_and_then_not_too_often():
    lines: list[str] = []
    talk = EpochLines(lines.append, lambda running: None, "macro_ap", pause=60)
    talk.on_trial_result(1, [], trial(3), result(1))
    talk.on_trial_result(1, [], trial(3), result(2))  # too early
    talk.on_trial_result(1, [], trial(4), {"bank": 1, "objective": 0.25, "done": False})  # of probes
    talk.on_trial_result(1, [], trial(3), result(4, done=True))
    assert lines == ["     #3 full: epoch 1/4, macro_ap 0.250, at most 15 s left"]


def test_no_more_time_is_promised_than_the_study_has():
    lines: list[str] = []
    talk = EpochLines(lines.append, lambda running: None, "macro_ap", deadline=time.time() - 1)
    talk.on_trial_result(1, [], trial(3), result(1))
    assert lines[0].endswith("at most 0 s left")


def test_the_epochs_of_the_trials_that_train_now_are_noted():
    noted: list[list[str]] = []
    talk = EpochLines(lambda line: None, noted.append, "macro_ap")
    talk.on_trial_result(1, [], trial(3), result(1))
    talk.on_trial_result(1, [], trial(5), result(1))
    talk.on_trial_result(1, [], trial(3), result(2))
    assert [line.split(",")[0] for line in noted[-1]] == ["#3 full: epoch 2/4", "#5 full: epoch 1/4"]
    talk.on_trial_complete(1, [], trial(3))
    assert [line.split(",")[0] for line in noted[-1]] == ["#5 full: epoch 1/4"]


def test_tune_does_not_keep_the_bytes_of_a_finished_bank():
    finished = SimpleNamespace(last_result={"bank_file": b"...", "objective": 0.5})
    ForgetBankFiles().on_trial_complete(1, [], finished)
    assert finished.last_result == {"objective": 0.5}


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("The actor died because its node has died. Node Id: 7", "the node that trained this is gone, or"),
        (
            "Worker exit detail: EOF. Some common causes: oom",
            "the worker died (EOF.)",
        ),
        (
            "ray.exceptions.OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. "
            "Memory on the node (IP: 10.0.0.1, ID: 7) was 30.12GB used / 31.50GB limit (0.956190)\nObject "
            "store memory usage: [x]\nRefer to the documentation. To disable worker killing, set the "
            "environment variable `RAY_memory_monitor_refresh_ms` to zero.",
            "the worker was ended, for memory ran short there (30.12 of 31.50 GB used); what trains",
        ),
        ("Traceback\n  File x\nRuntimeError: broken\n", "the worker failed (RuntimeError: broken)"),
        ("", "the worker failed (Ray does not say why)"),
    ],
)
def test_a_death_is_told_in_one_line_with_its_numbers(tmp_path, said, line):
    lines: list[str] = []
    (tmp_path / "error.txt").write_text(said)
    config = {"configurations": [{"number": 3}, {"number": 4}]}
    one = SimpleNamespace(trial_id="a", error_file=str(tmp_path / "error.txt"), config=config)
    WorkerDeaths(lines.append).on_trial_error(1, [], one)
    assert lines[0].startswith(f"#3 to #4: {line}") and "\n" not in lines[0]


def test_a_signal_that_was_lost_ends_the_study_at_the_next_step():
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BeforeEachStep(lambda: None, check).on_step_begin(1, [])
