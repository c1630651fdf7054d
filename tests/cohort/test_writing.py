"""Writing a cohort: what stands in the folder before and afterwards."""

import pyarrow.parquet as pq
import pytest

from cohort.errors import InputError
from cohort.facts import CohortFacts
from cohort.files import replacing_folder
from cohort.labels import LabelPolicy
from cohort.manifest import MANIFEST, Cohort
from cohort.writing import check_output_folder, write_manifest
from tests.cohort.test_manifest import TARGETS, columns, write


def test_labels_that_a_split_cannot_score_are_warned_of(tmp_path):
    warnings = write(tmp_path / "c").warnings
    assert warnings[:-1] == (
        "no positive in val: Edema",
        "no positive in test: Fracture",
        "no negative in test: Edema",
    )


def test_wrong_shapes_and_values_are_programming_errors(tmp_path):
    with pytest.raises(ValueError, match="targets_NC must be"):
        write(tmp_path / "c", targets_NC=TARGETS[:3])
    with pytest.raises(ValueError, match="0, 1 and NaN only"):
        write(tmp_path / "c", targets_NC=TARGETS * 2)
    with pytest.raises(ValueError, match="unknown"):
        write(tmp_path / "c", age=[1] * 7)


def test_an_existing_cohort_is_replaced(tmp_path):
    first = write(tmp_path / "c")
    second = write(tmp_path / "c", digest=["y"] * 7)
    assert Cohort.open(tmp_path / "c").content_hash == second.content_hash != first.content_hash
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds 'thesis\.tex' .*; choose an empty or new folder"):
        write(tmp_path / "c")
    assert (tmp_path / "c" / "thesis.tex").read_text() == "years of work"


def test_a_cohort_folder_in_which_something_was_put_later_is_refused(tmp_path):
    write(tmp_path / "c")
    (tmp_path / "c" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt'"):
        write(tmp_path / "c")
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match="must be a folder"):
        check_output_folder(tmp_path / "file")


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "c").mkdir()
    write(tmp_path / "c")


def test_images_drawn_for_a_cohort_go_with_it(tmp_path):
    def draw(folder, name):
        with replacing_folder(folder, check_output_folder) as staging:
            (staging / "images").mkdir()
            (staging / "images" / name).write_bytes(b"pixels")
            write_manifest(
                staging,
                columns(),
                TARGETS,
                CohortFacts(labels=["Edema", "Fracture"], source="drawn", policy=LabelPolicy()),
                images_root=staging / "images",
            )

    draw(tmp_path / "c", "old.png")
    draw(tmp_path / "c", "new.png")
    assert [file.name for file in (tmp_path / "c" / "images").iterdir()] == ["new.png"]
    (tmp_path / "c").rename(tmp_path / "moved")
    assert Cohort.open(tmp_path / "moved").images_root == tmp_path / "moved" / "images"
    with pytest.raises(InputError, match="the images lie inside this output folder"):
        write(tmp_path / "moved", images_root=tmp_path / "moved" / "images")


def test_an_error_while_drawing_leaves_the_old_cohort_as_it_was(tmp_path):
    before = write(tmp_path / "c").content_hash
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "c", check_output_folder) as staging:
        (staging / "half").write_text("done")
        raise RuntimeError
    assert Cohort.open(tmp_path / "c").content_hash == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_a_damaged_manifest_can_be_replaced(tmp_path):
    """Its list of contents once had to be readable."""
    write(tmp_path / "c")
    path = tmp_path / "c" / MANIFEST
    for text in (b"{", b"[]", b'{"contents": 3}'):
        pq.write_table(pq.read_table(path).replace_schema_metadata({b"radtune": text}), path)
        assert write(tmp_path / "c").labels == ("Edema", "Fracture")
