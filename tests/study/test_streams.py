"""What is printed reaches whatever terminal there is, and a command without one does its work."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PRINT = "from study.streams import prepare_streams; prepare_streams(); print({!r})"
SAID = "−0.014 · 10…20 ± 肺炎 ö \udcff"


def printed(encoding: str, code: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip(b"\n")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", rb"-0.014 | 10...20 +/- \u80ba\u708e \xf6 \xff"),
        ("latin-1", b"-0.014 \xb7 10...20 \xb1 \\u80ba\\u708e \xf6 \\xff"),
        ("utf-8", "−0.014 · 10…20 ± 肺炎 ö \\xff".encode()),
    ],
)
def test_what_an_encoding_lacks_is_written_in_what_it_has(encoding, shown):
    assert printed(encoding, PRINT.format(SAID)) == shown


def radtune(*words: object, shell: str, **environment: str) -> subprocess.CompletedProcess:
    """A command whose streams bash has set up."""
    command = [sys.executable, "-m", "study", *map(str, words)]
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", *command],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_whose_output_is_closed_does_its_work_in_silence(shell):
    done = radtune("space", "linear_probe", shell=shell)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_study_is_shown_where_every_stream_is_closed(studied):
    done = radtune("show", studied[0].folder.path, shell="<&- >&- 2>&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_error_stream_still_gives_the_exit_code(tmp_path):
    assert radtune("show", tmp_path, shell="2>&-").returncode == 2
    assert radtune("shw", shell="2>&1 | true").returncode == 2


def test_what_is_opened_first_does_not_become_what_is_printed_to(tmp_path):
    code = "from study.streams import prepare_streams; prepare_streams(); import os; "
    code += f"open({str(tmp_path / 'data')!r}, 'wb', buffering=0); os.write(1, b'noise')"
    done = subprocess.run(["bash", "-c", 'exec "$@" >&-', "bash", sys.executable, "-c", code], cwd=REPOSITORY)
    assert done.returncode == 0 and (tmp_path / "data").read_bytes() == b""


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("--version",), ("space", "linear_probe")])
def test_a_pipe_that_nobody_reads_is_no_fault(words):
    done = radtune(*words, shell="| true")
    assert done.stderr == "" and done.returncode == 0


def test_a_library_s_warning_is_shown_to_who_looks_for_faults_alone():
    code = "import study.cli as c, study.study as s, warnings\n"
    code += "def opened(_):\n  warnings.warn('deprecated in numpy 9')\n  raise SystemExit\n"
    code += "s.Study.open = opened\n"
    code += "c.main(['show', 'x', *__import__('sys').argv[1:]])"

    def said(*more: str) -> str:
        command = [sys.executable, "-c", code, *more]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stderr

    assert said() == "" and "deprecated in numpy 9" in said("--debug")


@pytest.mark.slow
def test_an_analysis_ends_well_on_a_terminal_of_few_letters(studied):
    done = radtune("analyze", studied[0].folder.path, "--only", "scores", shell="", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "->" in done.stdout and done.stdout.isascii() and "\\u" not in done.stdout
