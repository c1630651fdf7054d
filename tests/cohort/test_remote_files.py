"""Against a real S3 server on this machine."""

import os
import shutil

import pyarrow.fs
import pytest

from cohort.cache import filled
from cohort.errors import InputError
from cohort.manifest import Cohort
from cohort.remote_files import MirroredFolder, check_place, fetch, fetch_folder, listed, publish
from sample.phantoms import draw_cohort


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine that has mirrored nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mirrors"))


def put(place: str, content: bytes = b"content") -> None:
    system, path = pyarrow.fs.FileSystem.from_uri(place)
    with system.open_output_stream(path) as file:
        file.write(content)


def test_what_is_published_can_be_fetched(tmp_path, s3):
    (tmp_path / "file").write_bytes(b"some bytes")
    publish(tmp_path / "file", f"{s3}/a/file")
    assert list(listed(f"{s3}/a")) == ["file"] and listed(f"{s3}/b") == {}
    assert fetch(f"{s3}/a/file", tmp_path / "back") and (tmp_path / "back").read_bytes() == b"some bytes"
    assert not fetch(f"{s3}/a/none", tmp_path / "none") and not (tmp_path / "none").exists()


def test_a_mirror_becomes_what_lies_at_the_uri(s3):
    for name in ("same", "changed", "deep/er"):
        put(f"{s3}/folder/{name}")
    folder = fetch_folder(f"{s3}/folder")
    kept = (folder / "same").stat().st_ino
    (folder / "stale").write_text("not at the URI")
    put(f"{s3}/folder/changed", b"another one")
    assert fetch_folder(f"{s3}/folder/") == folder
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"same", "changed", "deep/er"}
    assert (folder / "changed").read_bytes() == b"another one" and (folder / "same").stat().st_ino == kept


@pytest.mark.parametrize("name", ["a b.png", "a%20b.png", "ex#h.png", "q?x.png", "ö.png", "it's+1.png"])
def test_a_file_comes_back_under_its_name_whatever_a_uri_reads_in_it(s3, name):
    there = MirroredFolder(f"{s3}/images")
    there.path.mkdir(parents=True)
    (there.path / name).write_bytes(b"pixels")
    there.push(there.path / name)
    assert list(listed(f"{s3}/images")) == [name]
    shutil.rmtree(there.path)
    there.pull()
    assert [path.name for path in there.path.iterdir()] == [name]
    assert (there.path / name).read_bytes() == b"pixels"


def test_a_folder_is_pushed_pulled_and_dropped(tmp_path, s3, monkeypatch):
    one = MirroredFolder(f"{s3}/trial")
    for name in ("epoch-1", "epoch-2"):
        (one.path / name).mkdir(parents=True)
        (one.path / name / "state").write_text(name)
        one.push(one.path / name / "state")
    one.drop(one.path / "epoch-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another-machine"))
    other = MirroredFolder(f"{s3}/trial")
    other.pull()
    assert [path.name for path in other.path.iterdir()] == ["epoch-2"]
    other.drop()
    assert listed(f"{s3}/trial") == {} and not other.path.exists()


def test_a_path_is_its_own_mirror(tmp_path):
    folder = MirroredFolder(str(tmp_path / "trial"))
    folder.path.mkdir()
    (folder.path / "state").write_text("state")
    folder.push(folder.path / "state")
    folder.pull()
    assert folder.path == tmp_path / "trial" and (folder.path / "state").read_text() == "state"


def test_a_cache_entry_is_made_once_for_all_machines(tmp_path, s3, monkeypatch):
    made = []

    def fill(folder):
        made.append(folder)
        (folder / "file").write_text("made")

    for machine in ("one", "two", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        assert (filled(f"{s3}/cache", "entry", ("file",), fill) / "file").read_text() == "made"
    assert len(made) == 1


def test_a_cohort_is_opened_from_a_uri(tmp_path, s3):
    drawn = draw_cohort(tmp_path / "cohort", images=60, size=32)
    for path in sorted(path for path in drawn.folder.rglob("*") if path.is_file()):
        publish(path, f"{s3}/cohorts/sample/{path.relative_to(drawn.folder).as_posix()}")
    fetched = Cohort.open(f"{s3}/cohorts/sample")
    assert fetched.content_hash == drawn.content_hash
    assert fetched.files().read(3) == drawn.files().read(3)
    with pytest.raises(InputError, match="no cohort there"):
        Cohort.open(f"{s3}/cohorts/none")


def test_a_cohort_whose_images_lie_elsewhere_is_no_cohort_at_a_uri(tmp_path, s3):
    from tests.study.conftest import square_cohort

    drawn = square_cohort(tmp_path / "cohort", images=8)
    publish(drawn.folder / "cohort.parquet", f"{s3}/squares/cohort.parquet")
    with pytest.raises(InputError, match="a cohort at a URI holds its images in its own folder"):
        Cohort.open(f"{s3}/squares")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://no-such-bucket/x", "checkpoints: s3://no-such-bucket/x: cannot be reached"),
        ("s3://key:secret@bucket/x", "checkpoints: s3://bucket: must hold neither credentials nor options"),
        ("s3://bucket/x?endpoint_override=e", "must hold neither credentials nor options"),
        ("file:///tmp/x", "given without file://"),
        ("nonsense://x", "cannot be reached"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_one_line(s3, place, message):
    with pytest.raises(InputError) as caught:
        check_place("checkpoints", place)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_writable_place_is_left_as_it_was(tmp_path, s3):
    check_place("checkpoints", f"{s3}/checkpoints")
    assert listed(s3) == {}
    check_place("checkpoints", str(tmp_path / "new"))
    assert os.listdir(tmp_path / "new") == []


def test_a_path_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"checkpoints: nothing can be written to .*file/x \(Not a directory\)"
    ):
        check_place("checkpoints", str(tmp_path / "file" / "x"))


def test_a_store_that_is_gone_is_one_line(tmp_path, s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(InputError, match=r"s3://gone/x: cannot be reached \(.*\); check the address"):
        fetch("s3://gone/x", tmp_path / "x")
    shutil.rmtree(tmp_path / "mirrors", ignore_errors=True)
