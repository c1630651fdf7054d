"""The manifest: what is written is what is read, and what must not be written is refused."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cohort.errors import InputError
from cohort.labels import LabelPolicy
from cohort.manifest import MANIFEST, Cohort
from cohort.writing import write_cohort

NAN = np.nan
TARGETS = np.array([[1, 0], [0, NAN], [1, 1], [0, 1], [NAN, NAN], [0, 0], [1, 0]])


def columns(**changes):
    images = [f"i{n}" for n in range(7)]
    return {
        "image": images,
        "file": [f"{image}.png" for image in images],
        "digest": ["d0", "d1", "", "d3", "d4", "d5", "d6"],
        "present": [True, True, False, True, True, True, True],
        "patient": ["p", "p", "q", "r", "s", "t", "s"],
        "study": images,
        "view": ["PA"] * 7,
        "split": ["train", "train", "train", "val", "test", "val", "test"],
        "keep.age": [40, 41, None, 20, 30, 50, 31],
        "keep.report": ["clear", None, "x", "y", "z", "ü", ""],
    } | changes


def write(folder, targets_NC=TARGETS, images_root="/images", facts=None, **changes):
    return write_cohort(
        folder,
        columns(**changes),
        targets_NC,
        labels=["Edema", "Fracture"],
        source="test",
        policy=LabelPolicy({"Edema": "ones"}, "negative", "as-given"),
        images_root=images_root,
        channels=3,
        flow=[("rows", 9), ("images", 7)],
        warnings=["careful"],
        contradictions=["i3"],
        uncertain={"Edema": 2, "Fracture": 0},
        **(facts or {}),
    )


def test_what_is_written_is_what_is_read(tmp_path):
    write(tmp_path / "c")
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.labels == ("Edema", "Fracture")
    assert cohort.source == "test" and cohort.channels == 3
    assert cohort.policy == LabelPolicy({"Edema": "ones"}, "negative", "as-given")
    assert cohort.flow == (("rows", 9), ("images", 7))
    assert cohort.warnings[-1] == "careful"
    assert cohort.contradictions == ("i3",)
    assert cohort.uncertain == {"Edema": 2, "Fracture": 0}
    assert not cohort.drawn and cohort.modality == "medical image" and cohort.licence == cohort.reader == ""
    assert cohort.table.num_rows == 7
    assert cohort.table["keep.age"].to_pylist() == [40, 41, None, 20, 30, 50, 31]
    assert cohort.table.schema.field("label.Edema").type == pa.int8()
    assert cohort.table["label.Fracture"].to_pylist() == [0, None, 1, 1, None, 0, 0]


def test_positions_count_present_images_only(tmp_path):
    cohort = write(tmp_path / "c")
    assert cohort.images() == ["i0", "i1", "i3", "i4", "i5", "i6"]
    assert {split: cohort.indices(split).tolist() for split in ("train", "val", "test")} == {
        "train": [0, 1],
        "val": [2, 4],
        "test": [3, 5],
    }
    assert cohort.indices("val").dtype == np.int64
    assert cohort.images(cohort.indices("test")) == ["i4", "i6"]
    assert cohort.files().names == ["i0.png", "i1.png", "i3.png", "i4.png", "i5.png", "i6.png"]
    assert cohort.column("keep.age") == [40, 41, 20, 30, 50, 31]


def test_targets_are_float32_with_nan_where_masked(tmp_path):
    cohort = write(tmp_path / "c")
    expected = TARGETS[[0, 1, 3, 4, 5, 6]]
    assert cohort.targets_NC().dtype == np.float32
    np.testing.assert_array_equal(cohort.targets_NC(), expected)
    np.testing.assert_array_equal(cohort.targets_NC(np.array([3, 0])), expected[[3, 0]])


def test_patient_codes_do_not_depend_on_the_rows_asked_for(tmp_path):
    cohort = write(tmp_path / "c")
    codes = cohort.patients_N()
    assert codes.dtype == np.int64
    assert codes[0] == codes[1] and codes[3] == codes[5] and len(set(codes)) == 4
    np.testing.assert_array_equal(cohort.patients_N(cohort.indices("test")), codes[[3, 5]])


def test_the_content_hash_follows_the_content_and_nothing_else(tmp_path):
    first = write(tmp_path / "a").content_hash
    assert write(tmp_path / "b", images_root="/elsewhere").content_hash == first
    flipped = TARGETS.copy()
    flipped[0, 0] = 0
    assert write(tmp_path / "c", targets_NC=flipped).content_hash != first
    assert write(tmp_path / "d", digest=["x"] * 7).content_hash != first


FACTS = {"drawn": True, "modality": "dermoscopy", "licence": "CC BY 4.0, © the clinic", "reader": "table"}


def test_what_the_images_are_is_kept_and_decides_about_no_row(tmp_path):
    cohort = write(tmp_path / "a", facts=FACTS)
    assert {name: getattr(cohort, name) for name in FACTS} == FACTS
    assert cohort.content_hash == write(tmp_path / "b").content_hash


WRONG_FACTS = [
    ({"drawn": "yes"}, "drawn must be true or false, got 'yes'"),
    ({"modality": "x-ray"}, "modality must be one of chest radiograph, .*, medical image, got 'x-ray'"),
    ({"licence": "one\ntwo"}, r"licence must be one line of at most 200 characters, got 'one\\ntwo'"),
    ({"licence": "x" * 201}, "licence must be one line of at most 200 characters"),
    ({"licence": None}, "licence must be one line"),
]


@pytest.mark.parametrize(("fact", "message"), WRONG_FACTS)
def test_wrong_facts_are_refused_when_written_and_when_opened(tmp_path, fact, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        write(tmp_path / "c", facts=fact)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []
    write(tmp_path / "c")
    path = tmp_path / "c" / MANIFEST
    table = pq.read_table(path)
    metadata = json.loads(table.schema.metadata[b"radtune"]) | fact
    pq.write_table(table.replace_schema_metadata({b"radtune": json.dumps(metadata)}), path)
    with pytest.raises(InputError, match=rf"cohort\.parquet: {message}.*; build the cohort again"):
        Cohort.open(tmp_path / "c")


def test_the_longest_licence_is_taken(tmp_path):
    assert len(write(tmp_path / "c", facts={"licence": "x" * 200}).licence) == 200


ONE_A_ROW = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [NAN, NAN], [0, 1], [1, 0]])


def test_multiclass_labels_are_kept_and_belong_to_the_content(tmp_path):
    one = write(tmp_path / "one", ONE_A_ROW, facts={"multiclass": True})
    many = write(tmp_path / "many", ONE_A_ROW)
    assert one.multiclass and not many.multiclass
    assert one.content_hash != many.content_hash


@pytest.mark.parametrize(("row", "has"), [([1, 1], "Edema, Fracture"), ([0, 0], "none"), ([1, NAN], "Edema")])
def test_multiclass_labels_are_one_a_row(tmp_path, row, has):
    targets_NC = ONE_A_ROW.copy()
    targets_NC[3] = row
    with pytest.raises(InputError, match=f"exactly one a row, but image 'i3' has {has}"):
        write(tmp_path / "c", targets_NC, facts={"multiclass": True})


def test_other_words_for_labels_are_kept_and_decide_about_no_row(tmp_path):
    plain = write(tmp_path / "plain")
    said = {"label_names": {"Edema": "pulmonary edema"}, "label_prompts": {"Edema": ["wet lungs", "edema"]}}
    worded = write(tmp_path / "worded", facts=said)
    assert worded.label_names == {"Edema": "pulmonary edema"}
    assert worded.label_prompts == {"Edema": ("wet lungs", "edema")}
    assert plain.label_names == plain.label_prompts == {}
    assert worded.content_hash == plain.content_hash


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"label_names": {"Edem": "x"}}, "no label 'Edem'.*Edema"),
        ({"label_names": {"Edema": "two\nlines"}}, "must be a line of text"),
        ({"label_names": {"Edema": "Fracture"}}, "two labels would be called 'Fracture'"),
        ({"label_prompts": {"Edema": []}}, "empty list of prompts"),
        ({"label_prompts": {"Edema": ["x" * 201]}}, "over 200 characters"),
    ],
)
def test_words_that_name_no_label_or_are_no_line_are_refused(tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "c", facts=words)


def test_a_cohort_may_lack_splits_and_says_so_only_when_asked_for_one(tmp_path):
    cohort = write(tmp_path / "c", split=["test"] * 7)
    assert cohort.splits == ("test",)
    assert cohort.indices("test").tolist() == list(range(6))
    assert cohort.warnings == ("careful",)
    with pytest.raises(InputError) as error:
        cohort.indices("train")
    assert str(error.value) == (
        f"{cohort.folder}: this cohort has no split 'train', only test; build it with one, or choose a "
        "cohort that has one"
    )
    assert write(tmp_path / "d").splits == ("train", "val", "test")


def test_a_column_or_split_that_is_not_there_is_refused(tmp_path):
    cohort = write(tmp_path / "c")
    with pytest.raises(InputError, match=r"no column 'keep\.aeg'; did you mean 'keep\.age'\?"):
        cohort.column("keep.aeg")
    with pytest.raises(InputError, match="split must be one of train, val, test, got 'valid'"):
        cohort.indices("valid")


def test_a_split_without_a_present_image_is_refused_when_asked_for(tmp_path):
    cohort = write(tmp_path / "c", present=[True, True, True, False, True, False, True])
    with pytest.raises(InputError, match="none of the 2 images of the split 'val' is present"):
        cohort.indices("val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ["i0", "i0", *"cdefg"]}, "image id 'i0' stands in 2 rows; an image id must be unique"),
        (
            {"split": ["train"] * 5 + ["test"] * 2},
            "patient 's' lies in 'train' and in 'test' (image 'i6'); a patient must be on one side only",
        ),
        ({"split": ["train"] * 6 + ["dev"]}, "split must be one of train, val, test, got 'dev'"),
    ],
)
def test_rows_that_break_a_rule_are_refused(tmp_path, changes, message):
    if "lies" in message:
        changes["split"][0:2] = ["val", "val"]
    with pytest.raises(InputError) as error:
        write(tmp_path / "c", **changes)
    assert str(error.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_without_rows_is_refused(tmp_path):
    empty = {name: [] for name in columns()}
    with pytest.raises(InputError, match="at least one image"):
        write_cohort(
            tmp_path / "c",
            empty,
            np.zeros((0, 1)),
            labels=["Edema"],
            source="",
            policy=LabelPolicy(),
            images_root="/images",
        )


def test_what_is_no_cohort_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no cohort there \(cohort\.parquet is missing\)"):
        Cohort.open(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"not Parquet")
    with pytest.raises(InputError, match="damaged") as error:
        Cohort.open(tmp_path)
    assert "\n" not in str(error.value)
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / MANIFEST)
    with pytest.raises(InputError, match="format must be 7, got None"):
        Cohort.open(tmp_path)


def test_a_manifest_that_lost_a_column_is_refused(tmp_path):
    write(tmp_path / "c")
    path = tmp_path / "c" / MANIFEST
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["label.Edema"]), path)
    with pytest.raises(InputError, match=r"column 'label\.Edema' of type int8 is missing"):
        Cohort.open(tmp_path / "c")


def rewrite(folder, table=None, **metadata):
    """A manifest as somebody else may have written it."""
    path = folder / MANIFEST
    table = table or pq.read_table(path)
    metadata = json.loads(pq.read_schema(path).metadata[b"radtune"]) | metadata
    pq.write_table(table.replace_schema_metadata({b"radtune": json.dumps(metadata)}), path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"labels": []}, "labels must be different names, one at least"),
        ({"labels": ["Edema", "Edema"]}, "labels must be different names"),
        ({"labels": 3}, r"damaged \(TypeError: "),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"intensity": {"low": 9, "high": 5, "rule": "full"}}, "intensity must go from"),
        ({"intensity": {"lowest": 0}}, r"damaged \(TypeError: "),
        ({"policy": {"uncertain": "perhaps"}}, "uncertain rule must be one of"),
        ({"label_prompts": None}, r"damaged \(AttributeError: "),
        ({"images_root": 3}, r"damaged \(TypeError: "),
        ({"policy": {}}, "its rows, labels or rules are no longer those that it was written with"),
    ],
)
def test_metadata_that_nobody_writes_are_refused_in_one_line(tmp_path, metadata, message):
    write(tmp_path / "c")
    rewrite(tmp_path / "c", **metadata)
    with pytest.raises(InputError, match=rf"cohort\.parquet: {message}.*; build the cohort again$") as error:
        Cohort.open(tmp_path / "c")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("patient", ["p", "p", "p", "p", "s", "t", "s"], "patient 'p' lies in 'train' and in 'val'"),
        ("split", ["train", "train", "train", "dev", "test", "val", "test"], "split must be one of"),
        ("image", ["i0"] * 7, "image id 'i0' stands in 7 rows"),
        ("file", [None, "a", "b", "c", "d", "e", "f"], "column 'file' has 1 empty cells"),
        ("label.Edema", [7, 0, 1, 0, None, 0, 1], "a label cell must be 1, 0 or masked"),
        ("label.Edema", [0, 0, 1, 0, None, 0, 1], "its rows, labels or rules are no longer those"),
        ("keep.age", [4, 41, None, 20, 30, 50, 31], "its rows, labels or rules are no longer those"),
    ],
)
def test_rows_that_were_changed_behind_the_manifests_back_are_refused(tmp_path, column, cells, message):
    write(tmp_path / "c")
    table = pq.read_table(tmp_path / "c" / MANIFEST)
    place = table.column_names.index(column)
    changed = table.set_column(place, column, pa.array(cells, table.schema.field(column).type))
    rewrite(tmp_path / "c", changed)
    with pytest.raises(InputError, match=rf"cohort\.parquet: {message}.*; build the cohort again$"):
        Cohort.open(tmp_path / "c")


@pytest.mark.parametrize(
    "metadata", [{"source": "another"}, {"images_root": "/elsewhere"}, {"warnings": []}, {"licence": "MIT"}]
)
def test_words_that_were_changed_behind_the_manifests_back_are_refused(tmp_path, metadata):
    write(tmp_path / "c")
    rewrite(tmp_path / "c", **metadata)
    with pytest.raises(InputError, match="its metadata are no longer those that it was written with"):
        Cohort.open(tmp_path / "c")


def test_no_flipped_byte_of_a_manifest_changes_what_is_opened(tmp_path):
    written = write(tmp_path / "c")
    path = tmp_path / "c" / MANIFEST
    data = path.read_bytes()
    refused = 0
    for position in range(0, len(data), 13):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            opened = Cohort.open(tmp_path / "c")
        except InputError:
            refused += 1
            continue
        assert opened.table.equals(written.table) and replace(opened, table=written.table) == written
    assert refused > len(data) / 26


def test_metadata_that_are_no_json_are_refused(tmp_path):
    write(tmp_path / "c")
    path = tmp_path / "c" / MANIFEST
    for text in (b"{", b"[" * 100_000, b"[]"):
        pq.write_table(pq.read_table(path).replace_schema_metadata({b"radtune": text}), path)
        with pytest.raises(InputError, match="damaged") as error:
            Cohort.open(tmp_path / "c")
        assert "\n" not in str(error.value)


def test_the_metadata_are_json_under_one_key(tmp_path):
    write(tmp_path / "c")
    metadata = json.loads(pq.read_schema(tmp_path / "c" / MANIFEST).metadata[b"radtune"])
    assert metadata["labels"] == ["Edema", "Fracture"] and metadata["images_root"] == "/images"


def test_a_cohort_shows_itself_in_a_notebook(tmp_path):
    labels, targets_NC = ("<i>Edema</i>", "Mass"), np.array([[1, 0], [0, np.nan], [1, 1], [1, 0]])
    columns = {
        "image": list("abcd"),
        "file": [f"{name}.png" for name in "abcd"],
        "digest": list("abcd"),
        "present": [True, True, True, False],
        "patient": list("xxyz"),
        "study": list("abcd"),
        "view": [""] * 4,
        "split": ["train", "train", "val", "test"],
    }
    cohort = write_cohort(
        *(tmp_path / "cohort", columns, targets_NC),
        labels=labels,
        source="a test",
        policy=LabelPolicy(),
        images_root=tmp_path,
    )
    assert repr(cohort) == (
        f"Cohort({tmp_path / 'cohort'}: 4 images, 3 of them there, 3 patients, 2 labels, medical image)"
    )
    html = cohort._repr_html_()
    assert "<th>positive images</th><th>train</th><th>val</th><th>test</th>" in html
    assert "<td>&lt;i&gt;Edema&lt;/i&gt;</td><td>1</td><td>1</td><td>1</td>" in html
    assert "<td>Mass</td><td>0</td><td>1</td><td>0</td>" in html and "<i>" not in html
