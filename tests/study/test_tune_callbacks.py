from types import SimpleNamespace

from study.tune_callbacks import EpochLines, ForgetBankFiles


def test_an_epoch_is_said_with_the_time_left_and_not_too_often():
    lines: list[str] = []
    asked = {"number": 3, "params": {"method": "full", "epochs": 4}, "preset": ""}
    trial = SimpleNamespace(config={"bank": 3, "configurations": [asked]})
    seldom = EpochLines(lines.append, "macro_ap", pause=60)
    first = {"epoch": 1, "objective": 0.25, "time_this_iter_s": 5.0, "done": False}
    bank = {"bank": 1, "objective": 0.25, "done": False}
    talk = EpochLines(lines.append, "macro_ap", pause=0)
    for result in (first, bank, first | {"epoch": 4, "done": True}):
        talk.on_trial_result(1, [], trial, result)
    seldom.on_trial_result(1, [], trial, first)
    assert lines == ["     #3 full: epoch 1/4, macro_ap 0.250, at most 15 s left"]


def test_tune_does_not_keep_the_bytes_of_a_finished_bank():
    trial = SimpleNamespace(last_result={"bank_file": b"...", "objective": 0.5})
    ForgetBankFiles().on_trial_complete(1, [], trial)
    assert trial.last_result == {"objective": 0.5}
