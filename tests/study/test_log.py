"""Tests of the log of a run."""

import logging
import warnings

from study.log import logged, run_log
from study.streams import hide_warnings


def test_each_line_is_said_once_and_logged_once_with_its_time(tmp_path, capsys):
    said = []
    echo = logged(said.append)
    for _ in range(2):  # a resume
        with run_log(tmp_path / "run.log"):
            echo("one bank")
    assert said == ["one bank"] * 2
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.partition(" INFO ")[2] for line in lines] == ["radtune: one bank"] * 2
    assert capsys.readouterr() == ("", "")


def test_what_libraries_warn_of_goes_to_the_log_and_not_to_the_console(tmp_path, capsys):
    logging.captureWarnings(False)  # of a command that ran in this process
    hide_warnings()
    try:
        with run_log(tmp_path / "run.log"), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("an old argument", FutureWarning, stacklevel=1)
            logging.getLogger("some.library").warning("a slow path")
    finally:
        logging.captureWarnings(False)
    text = (tmp_path / "run.log").read_text()
    assert text.count("FutureWarning: an old argument") == 1 and "WARNING some.library: a slow path" in text
    assert capsys.readouterr() == ("", "")


def test_nothing_is_written_where_nothing_is_said(tmp_path):
    with run_log(tmp_path / "run.log"):
        pass
    assert not (tmp_path / "run.log").exists()
