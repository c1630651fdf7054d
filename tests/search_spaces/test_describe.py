import importlib

import pytest
import yaml

from search_spaces import SPACES
from search_spaces.describe import describe


@pytest.mark.parametrize("name", SPACES)
def test_every_parameter_stands_in_the_table_with_its_meaning(name):
    lines = describe(name).splitlines()
    words = " ".join(describe(name).split())
    for parameter_name, parameter in importlib.import_module(f"search_spaces.{name}").PARAMETERS.items():
        assert any(line.startswith(f"{parameter_name} ") for line in lines)
        assert " ".join(parameter.meaning.split()) in words
    assert max(map(len, lines)) <= 110


def test_rows_worked_by_hand():
    rows = [line.split("  ") for line in describe("fine_tune").splitlines()]
    rows = {cells[0]: [cell.strip() for cell in cells[1:] if cell.strip()] for cells in rows if cells[0]}
    assert rows["lora_rank"] == ["2 to 32, whole", "log", "method = lora"]
    assert rows["layer_decay"] == ["0.5 to 1", "linear", "method = full or last_blocks"]
    assert rows["ema_decay"] == ["0, 0.99, 0.999", "choice"]
    assert rows["focal_gamma"] == ["0.5 to 4", "linear", "loss = focal"]


@pytest.mark.parametrize("name", SPACES)
def test_what_it_prints_may_be_pasted_into_a_study_file(name):
    space = importlib.import_module(f"search_spaces.{name}")
    text = describe(name)
    example = yaml.safe_load(text.split("in a study file:\n")[1])
    assert example["trainable"] == name
    space.check(**example["search"])
    for preset, params in space.PRESETS.items():
        printed = text.split(f"preset {preset}:\n")[1].split("\n\n")[0]
        values = dict(line.strip().split(": ") for line in printed.splitlines())
        assert list(values) == list(params)
        for parameter_name, value in params.items():
            assert values[parameter_name] == value or float(values[parameter_name]) == value
