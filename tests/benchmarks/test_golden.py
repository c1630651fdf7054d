"""The comparison of results before and after a change."""

import json

import pytest

from benchmarks.golden import differences, main


def test_a_difference_is_named_and_what_agrees_to_six_digits_is_none():
    before = {"a": [1.0, "x"], "b": {"c": 2}}
    assert list(differences(before, {"a": [1.0 + 1e-9, "x"], "b": {"c": 2}})) == []
    assert list(differences(before, {"a": [1.001, "y"], "b": {}})) == [
        "/a[0]: 1.0 before, 1.001 after",
        "/a[1]: 'x' before, 'y' after",
        "/b/c: only before",
    ]


@pytest.mark.slow
def test_a_study_is_equal_to_itself_and_not_to_another(tmp_path, capsys):
    golden, smallest = tmp_path / "golden.json", ["--studies", "probe", "--images", "200"]
    assert main(["write", str(golden), *smallest]) == 0
    written = json.loads(golden.read_text())
    assert len(written["probe"]["journal"]) == 48 and written["probe"]["test_scores.csv"]
    written["probe"]["trials"][0]["number"] = 99
    golden.write_text(json.dumps(written))
    assert main(["compare", str(golden), *smallest]) == 1
    assert capsys.readouterr().out.endswith("/probe/trials[0]/number: 99 before, 0 after\n1 differences\n")
