"""The guard itself: what it is there for, it stops and reports."""

import pytest


@pytest.mark.parametrize(
    ("how", "event"),
    [
        ("connect", "socket.connect"),
        ("look up", "socket.gethostbyname"),
        ("start", "subprocess.Popen"),
        ("write", "open"),
        ("make a folder", "os.mkdir"),
        ("ask", "builtins.input"),
    ],
)
def test_what_is_forbidden_fails_and_is_reported(guarded, tmp_path, how, event):
    outcome = guarded.ask("trespass", how=how, place=str(tmp_path / "outside"))
    assert [one.split()[0] for one in outcome.forbidden[:1]] == [event] and not outcome.orderly
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("take memory", "allocate memory"),
        ("end", "ended with"),
        pytest.param("hang", "no answer within", marks=pytest.mark.slow),
    ],
)
def test_memory_death_and_silence_are_failures_after_which_it_goes_on(guarded, how, message):
    outcome = guarded.ask("trespass", how=how, place="", timeout_s=3 if how == "hang" else 30)
    assert message in outcome.failure and not outcome.orderly
    assert guarded.ask("encoder", name="pixels").orderly
