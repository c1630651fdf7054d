"""By what the table of predictions in a run folder is of the study's present state."""

import json

import pytest

from study.config import StudyConfig
from study.predictions import state_of_rows
from study.run_folder import RunFolder


@pytest.mark.parametrize("shared", [False, True])
def test_another_answer_makes_another_state(tmp_path, shared):
    run = RunFolder(tmp_path / "s")
    run.path.mkdir()
    run.inputs_file.write_text(json.dumps({"precision": "fp32"}))
    checkpoints = {"checkpoints": str(tmp_path / "elsewhere")} if shared else {}
    config = StudyConfig(name="s", cohort="c", encoder="phantom-clip", trainable="fine_tune", **checkpoints)
    states = [state_of_rows(config, run)]
    tuned = run.tuned_answer(config.shared_folder).path
    tuned.mkdir(parents=True)
    for file in (run.answer_file, tuned / "answer.safetensors"):
        for content in (b"one", b"other"):
            file.write_bytes(content)
            states.append(state_of_rows(config, run))
    assert len(set(states)) == 5
