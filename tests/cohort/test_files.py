"""Files and folders appear whole or not at all, whatever interrupts."""

import os

import pytest

from cohort.errors import InputError
from cohort.files import (
    STALE_S,
    check_output_file,
    refuse_foreign,
    replacing_file,
    replacing_folder,
    write_atomically,
)


def anything_goes(folder):
    pass


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_fails_half_way_leaves_the_former_one_and_nothing_else(tmp_path):
    write_atomically(tmp_path / "deep" / "file", b"before")
    with pytest.raises(RuntimeError), replacing_file(tmp_path / "deep" / "file") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert (tmp_path / "deep" / "file").read_bytes() == b"before"
    assert names(tmp_path / "deep") == ["file"]


def test_a_folder_is_replaced_with_all_that_was_in_it(tmp_path):
    for text in ("one", "two"):
        with replacing_folder(tmp_path / "out", anything_goes) as staging:
            (staging / text).write_text(text)
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["two"]


def test_a_folder_that_fails_half_way_stays_what_it_was(tmp_path):
    with replacing_folder(tmp_path / "out", anything_goes) as staging:
        (staging / "one").touch()
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "out", anything_goes) as staging:
        (staging / "two").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["one"]


@pytest.mark.parametrize("how", ["Ctrl-C", "kill"])
def test_an_interruption_between_the_two_renames_brings_the_former_folder_back(tmp_path, monkeypatch, how):
    """The second rename is the one that fails; a killed process cannot tidy up, the next one does."""
    out = tmp_path / "out"
    with replacing_folder(out, anything_goes) as staging:
        (staging / "one").touch()
    rename = os.replace

    def interrupted(source, target):
        if str(source).endswith(".new"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    if how == "kill":
        monkeypatch.setattr("cohort.files._take_back", lambda *_: None)
    with pytest.raises(KeyboardInterrupt), replacing_folder(out, anything_goes) as staging:
        (staging / "two").touch()
    monkeypatch.undo()
    if how == "kill":
        assert not out.exists()
        with pytest.raises(RuntimeError), replacing_folder(out, anything_goes):
            raise RuntimeError
    assert names(tmp_path) == ["out"] and names(out) == ["one"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """As two containers on one disk, whose processes have the same number."""
    with replacing_file(tmp_path / "file") as first:
        first.write_bytes(b"first")
        with replacing_file(tmp_path / "file") as second:
            second.write_bytes(b"second")
        assert (tmp_path / "file").read_bytes() == b"second"
    assert (tmp_path / "file").read_bytes() == b"first" and names(tmp_path) == ["file"]


def test_two_writers_of_one_folder_do_not_meet(tmp_path):
    with replacing_folder(tmp_path / "out", anything_goes) as first:
        (first / "first").touch()
        with replacing_folder(tmp_path / "out", anything_goes) as second:
            (second / "second").touch()
        assert names(tmp_path / "out") == ["second"]
    assert names(tmp_path / "out") == ["first"] and names(tmp_path) == ["out"]


def test_what_killed_processes_left_half_written_is_deleted_when_it_is_stale(tmp_path):
    fresh, stale = (tmp_path / f".file.0123456{n}.tmp" for n in range(2))
    foreign, folder = tmp_path / ".file.mine.tmp", tmp_path / ".out.01234567.new"
    for path in (fresh, stale, foreign):
        path.touch()
    (folder / "part").mkdir(parents=True)
    long_ago = os.stat(tmp_path).st_mtime - STALE_S - 60
    for path in (stale, foreign, folder):
        os.utime(path, (long_ago, long_ago))
    write_atomically(tmp_path / "file", b"")
    with replacing_folder(tmp_path / "out", anything_goes):
        pass
    assert names(tmp_path) == sorted([fresh.name, foreign.name, "file", "out"])


def test_a_refused_folder_is_not_touched(tmp_path):
    def refuse(folder):
        raise ValueError(folder)

    with pytest.raises(ValueError, match="out"), replacing_folder(tmp_path / "out", refuse):
        raise AssertionError("never entered")
    assert names(tmp_path) == []


def test_a_folder_is_foreign_where_it_holds_what_is_not_its_own(tmp_path):
    refuse_foreign(tmp_path / "new", (), "cohort")
    (tmp_path / "mine").touch()
    refuse_foreign(tmp_path, {"mine", "more"}, "cohort")
    with pytest.raises(InputError, match=r"holds 'mine' \(1 in all\), which no cohort put there"):
        refuse_foreign(tmp_path, {"more"}, "cohort")
    with pytest.raises(InputError, match="the output must be a folder, and this is a file"):
        refuse_foreign(tmp_path / "mine", (), "cohort")


def test_an_output_file_is_refused_where_it_could_not_be_written(tmp_path):
    check_output_file(tmp_path / "new.csv")
    (tmp_path / "old.csv").touch()
    check_output_file(tmp_path / "old.csv")
    for path, message in (
        (tmp_path, "the output must be a file"),
        ("/dev/null", "the output must be a file"),
        (tmp_path / "none" / "x.csv", "no folder .*none; make it first"),
        (tmp_path / "old.csv" / "x.csv", "no folder .*old.csv; make it first"),
    ):
        with pytest.raises(InputError, match=message):
            check_output_file(path)


def test_a_disk_without_room_is_named_and_left_as_it_was(tmp_path, tiny_disk):
    disk = tiny_disk(8192)
    write_atomically(disk / "x", b"old")
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(disk / "x", bytes(10_000))
    assert caught.value.filename == str(disk / "x")
    with (
        pytest.raises(OSError, match="No space left") as caught,
        replacing_folder(disk / "folder", anything_goes) as new,
    ):
        (new / "y").write_bytes(bytes(10_000))
    assert caught.value.filename == str(disk / "folder")
    assert names(disk) == ["x"] and (disk / "x").read_bytes() == b"old"
