"""`radtune doctor`: a line for each thing that a study needs, and an exit status by the gravest."""

import re

import pytest

from study import doctor
from study.cli import main
from tests.cohort.made_images import cohort_of, write_images

SUBJECTS = ["versions", "devices", "Ray", "MLflow", "cache", "disk", "decoders", "hub"]


def lines(capsys):
    return [re.split(r" +", line, maxsplit=2) for line in capsys.readouterr().out.splitlines()]


def checks(monkeypatch, **severities):
    monkeypatch.setattr(
        doctor, "examine", lambda cache, uri: [doctor.Check(s, n, "") for n, s in severities.items()]
    )


def test_every_subject_has_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.01)
    code = main(["doctor"])
    found = lines(capsys)
    assert [subject for _, subject, _ in found] == SUBJECTS
    severity = {subject: severity for severity, subject, _ in found}
    assert severity["versions"] == severity["decoders"] == severity["MLflow"] == "ok"
    assert code == max({"ok": 0, "warning": 1, "error": 2}[one] for one in severity.values())
    assert not (tmp_path / "mlflow.db").exists(), "nothing is made"


@pytest.mark.parametrize(("gravest", "code"), [("ok", 0), ("warning", 1), ("error", 2)])
def test_the_exit_status_is_that_of_the_gravest_line(monkeypatch, gravest, code):
    checks(monkeypatch, disk="ok", hub=gravest, Ray="ok")
    assert main(["doctor"]) == code


def test_a_check_that_fails_is_an_error_in_one_line_without_passwords(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.01)
    assert main(["doctor", "--uri", "http://ann:s3cret@127.0.0.1:1"]) == 2
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == len(SUBJECTS) and "s3cret" not in printed


def test_a_cohort_s_images_are_looked_at_instead(tmp_path, capsys):
    write_images(tmp_path / "images", 6, size=20)
    cohort_of(tmp_path / "images", tmp_path / "cohort")
    assert main(["doctor", str(tmp_path / "cohort")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cohort'}: 6 images read, nothing odd\n"
    (tmp_path / "images" / "0.png").unlink()
    assert main(["doctor", str(tmp_path / "cohort")]) == 2
