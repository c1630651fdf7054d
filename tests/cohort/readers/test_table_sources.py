"""One table out of several: a table or a list a split, joins, several images in a row."""

import numpy as np
import pytest

from cohort import parquet_files
from cohort.errors import InputError
from cohort.readers.table import TableOptions, read_table
from tests.cohort.made_images import encode, random_image


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(24):
        (folder / f"{n}.png").write_bytes(encode(random_image(12, 12, seed=n)))
    return tmp_path


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def read(folder, table, **options):
    options = {"image_column": "file", "labels": ["Edema"]} | options
    return read_table(table, folder / "images", folder / "cohort", TableOptions(**options))


def test_lists_of_names_are_splits_and_validation_may_be_drawn_from_training(images):
    table = write(images / "t.csv", "file,pid,Edema", [(f"{n}.png", n // 2, n % 4 // 2) for n in range(24)])
    (images / "train.txt").write_text("\n".join(f"{n}.png" for n in range(12)) + "\n")
    (images / "test.txt").write_text("\n".join(f"{n}.png 0 1" for n in [*range(12, 20), 99]))
    lists = [f"train={images}/train.txt", f"test={images}/test.txt"]
    cohort = read(images, table, patient_column="pid", split_list=lists)
    assert cohort.column("split") == ["train"] * 12 + ["test"] * 8
    assert ("image in a split list", 20) in cohort.flow
    assert "1 of 9 names in test.txt are not in the table (99.png)" in cohort.warnings
    drawn = read(images, table, patient_column="pid", split_list=lists, val_from_train=0.3)
    split = drawn.column("split")
    assert split[12:] == ["test"] * 8 and split[:12:2] == split[1:12:2] and 2 <= split[:12].count("val") <= 6
    with pytest.raises(InputError, match=r"'0\.png' is in a list of 'train' already"):
        read(images, table, split_list=[*lists, f"val={images}/train.txt"])


def test_a_table_a_split_with_the_same_names_in_other_folders(images):
    """As in RFMiD."""
    for split in ("Training", "Validation", "Test"):
        (images / "images" / split).mkdir()
        for n in range(6):
            name = images / "images" / f"{n + ('Training', 'Validation', 'Test').index(split) * 6}.png"
            name.rename(images / "images" / split / f"{n}.png")
        write(images / f"{split}.csv", "file,Edema", [(n, n % 2) for n in range(6)])
    tables = [f"{split}={images}/{split}.csv" for split in ("Training", "Validation", "Test")]
    folders = [f"{split}={split}" for split in ("Training", "Validation", "Test")]
    cohort = read(images, tables, images_in=folders, patient_is_image=True)
    assert cohort.column("split") == ["train"] * 6 + ["val"] * 6 + ["test"] * 6
    assert cohort.images()[6] == "Validation/0" and cohort.column("file")[6] == "Validation/0.png"
    with pytest.raises(InputError, match="stands in an earlier row"):
        read(images, tables, patient_is_image=True)


def test_tables_are_joined_by_their_keys_and_unmatched_rows_counted(images):
    """As MIMIC's: images and studies."""
    table = write(images / "t.csv", "file,study,pid,x", [(n, n // 2, n // 4, n) for n in range(24)])
    labels = write(images / "l.csv", "study,pid,Edema,x", [(s, s // 2, s % 2, 0) for s in range(1, 14)])
    cohort = read(
        images, table, join=[str(labels)], on=[["study", "pid"]], patient_column="pid", study_column="study"
    )
    assert cohort.images() == [str(n) for n in range(2, 24)]
    np.testing.assert_array_equal(cohort.targets_NC()[:, 0], [n // 2 % 2 for n in range(2, 24)])
    assert cohort.flow[:2] == (("rows read", 24), ("row in l.csv", 22))
    assert "2 of 13 rows of l.csv have no row in the table" in cohort.warnings
    with pytest.raises(InputError, match=r"t\.csv: no column 'sid'"):
        read(images, table, join=[str(labels)], on=[["sid"]], patient_column="pid")
    twice = write(images / "l2.csv", "study,Edema", [(s // 2, s % 2) for s in range(24)])
    with pytest.raises(InputError, match="a second row with the same study; pass --rows"):
        read(images, table, join=[str(twice)], on=[["study"]], patient_column="pid")
    any_ = read(images, table, join=[str(twice)], on=[["study"]], patient_column="pid", rows="any")
    assert (any_.targets_NC() == 1).all()


def test_a_join_that_would_grow_beyond_all_tables_is_refused(images, monkeypatch):
    table = write(images / "t.csv", "file,study", [(n, 0) for n in range(24)])
    labels = write(images / "l.csv", "study,Edema", [(0, n % 2) for n in range(24)])
    monkeypatch.setattr(parquet_files, "MOST_ROWS", 500)
    with pytest.raises(InputError, match="has more than 500 rows"):
        read(images, table, join=[str(labels)], on=[["study"]], rows="any", patient_is_image=True)


def test_several_images_in_a_row_are_one_patients_with_the_rows_labels(images):
    """As ODIR's left and right eyes."""
    rows = [(f"{2 * n}.png", f"{2 * n + 1}.png" if n else "", n % 2) for n in range(12)]
    table = write(images / "t.csv", "Left,Right,Edema", rows)
    cohort = read(images, table, image_column=None, image_columns=["Left", "Right"])
    assert cohort.images()[:3] == ["0.png", "2.png", "3.png"] and len(cohort.images()) == 23
    assert cohort.column("patient")[:3] == ["0.png", "2.png", "2.png"]
    np.testing.assert_array_equal(cohort.targets_NC()[:4, 0], [0, 1, 1, 0])


def test_a_list_of_images_in_a_cell_is_several_of_the_rows_labels(images):
    rows = [(f"\"['{2 * n}.png', '{2 * n + 1}.png']\"", n, n % 2) for n in range(12)]
    table = write(images / "t.csv", "file,pid,Edema", rows)
    cohort = read(images, table, patient_column="pid")
    assert cohort.images() == [f"{n}.png" for n in range(24)]
    np.testing.assert_array_equal(cohort.targets_NC()[:, 0], [n // 2 % 2 for n in range(24)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"join": ["x.csv"]}, "each --join needs an --on"),
        ({"image_column": None}, "name the column of images"),
        ({"image_columns": ["a", "b"]}, "name the column of images"),
        ({"val_from_train": 2.0}, "--val-from-train must lie between 0 and 1"),
        ({"split_list": ["train"]}, "--split-list 'train': expected a split and a name"),
        ({"images_in": ["train=a"]}, "--images-in says where"),
    ],
)
def test_options_that_do_not_go_together_are_refused(images, options, message):
    table = write(images / "t.csv", "file,Edema", [(n, n % 2) for n in range(24)])
    with pytest.raises(InputError, match=message):
        read(images, table, **options)
