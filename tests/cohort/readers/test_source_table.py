"""Source tables: every cell is text, rows are named as a person finds them."""

import numpy as np
import pandas as pd
import pytest

from cohort.errors import InputError
from cohort.readers.source_table import label_cells, read_source, require_cells, require_columns, typed


def test_csv_cells_stay_text_and_blanks_become_none(tmp_path):
    (tmp_path / "t.csv").write_bytes("\ufeffid,age,note\n007, 40 ,NA\n8,,x\n".encode())
    frame = read_source(tmp_path / "t.csv")
    assert frame.columns.tolist() == ["id", "age", "note"]
    assert frame.to_numpy().tolist() == [["007", "40", None], ["8", None, "x"]]
    assert frame.index.tolist() == [f"{tmp_path}/t.csv, row 2", f"{tmp_path}/t.csv, row 3"]


def test_parquet_reads_like_the_same_csv(tmp_path):
    pd.DataFrame({"id": [7, 8], "age": [40.0, np.nan], "edema": [True, None], "f": [0.5, -1]}).to_parquet(
        tmp_path / "t.parquet"
    )
    frame = read_source(tmp_path / "t.parquet")
    assert frame.to_numpy().tolist() == [["7", "40", "True", "0.5"], ["8", None, None, "-1"]]
    assert frame.index[0].endswith("t.parquet, row 1")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b'a,b\n1,2\n3,4,5,6\n"'),
        ("t.csv", b""),
        ("t.parquet", b"nonsense"),
        ("t.csv", b"\xff\xfe\x00"),
        ("t.csv", b'a,b\n1,"2\n3,4\n'),
        ("t.csv", b"\na,b\n1,2\n"),
    ],
)
def test_an_unreadable_table_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="not a readable CSV or Parquet table") as error:
        read_source(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        # What pandas makes of these: A is 0 and B blank; B of b.png is blank; the second A is called A.1.
        ("image,A,B\na.png,1,0,\nb.png,0,1,\n", "row 2 has 4 cells and the header 3"),
        ("image,A,B\na.png,1,0\n\nb.png,1\n", "row 4 has 2 cells and the header 3"),
        ("image,A,A\na.png,1,0\n", "2 columns are called 'A'; give them different names"),
    ],
)
def test_a_row_that_does_not_fit_the_header_is_refused(tmp_path, content, reason):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=rf"t\.csv: not a readable CSV or Parquet table \({reason}"):
        read_source(tmp_path / "t.csv")


def test_rows_keep_their_numbers_below_blank_lines_and_texts_of_several(tmp_path):
    (tmp_path / "t.csv").write_text('image,,report\n\na.png,x,"two\nlines, one cell"\nb.png,,\n')
    frame = read_source(tmp_path / "t.csv")
    assert frame.columns.tolist() == ["image", "report"]
    assert [row.rpartition(" ")[2] for row in frame.index] == ["3", "4"]
    assert frame["report"].tolist() == ["two\nlines, one cell", None]


def test_words_for_blank_are_blank_in_parquet_as_in_csv(tmp_path):
    pd.DataFrame({"a": ["NA", " nan ", "x"]}).to_parquet(tmp_path / "t.parquet")
    assert read_source(tmp_path / "t.parquet")["a"].tolist() == [None, None, "x"]


def test_a_table_without_rows_is_refused_as_that(tmp_path):
    (tmp_path / "t.csv").write_text("image,A\n")
    pd.DataFrame({"image": []}).to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(InputError, match=f"{name}: there are no rows below the header"):
            read_source(tmp_path / name)


def test_an_absent_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"t\.csv: no such file"):
        read_source(tmp_path / "t.csv")


def test_absent_columns_and_blank_cells_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("image,patient\na,p\nb,\n")
    frame = read_source(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"t\.csv: no column 'patient_id'; did you mean 'patient'\?"):
        require_columns(frame, ["image", "patient_id"], tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"t\.csv, row 3: column 'patient' is blank"):
        require_cells(frame, "patient")


def test_label_cells_are_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,-1.0\n0.0,\nTrue,-1\n")
    expected = [[1, -1], [0, np.nan], [1, -1]]
    np.testing.assert_array_equal(label_cells(read_source(tmp_path / "t.csv"), ["x", "y"]), expected)


def test_another_label_cell_is_refused_with_its_row(tmp_path):
    (tmp_path / "t.csv").write_text("x\n1\nmaybe\n")
    with pytest.raises(InputError, match=r"t\.csv, row 3: label 'x' must be 1, 0, -1 .* got 'maybe'"):
        label_cells(read_source(tmp_path / "t.csv"), ["x"])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", None, "3"], [1, None, 3]),
        (["1", "2.5"], [1.0, 2.5]),
        (["007", "8"], ["007", "8"]),
        (["0", "0.5"], [0.0, 0.5]),
        (["1", "F"], ["1", "F"]),
        (["2024_01", "2024_02"], ["2024_01", "2024_02"]),
        (["1", "inf"], ["1", "inf"]),
        (["1234567890123456789", "1"], ["1234567890123456789", "1"]),
        (["-1.5e-3", "+2", ".5"], [-0.0015, 2.0, 0.5]),
        ([None, None], [None, None]),
    ],
)
def test_kept_columns_are_numbers_where_every_cell_is_one(cells, expected):
    assert typed(cells) == expected


def test_a_label_column_of_something_else_is_refused_with_what_it_looks_like(tmp_path):
    (tmp_path / "t.csv").write_text("x,i\n" + "".join(f"{n} 3 {n + 9} 4 77 2,1\n" for n in range(20)))
    with pytest.raises(InputError, match=r"row 2: label 'x' .*; its column holds run lengths of masks"):
        label_cells(read_source(tmp_path / "t.csv"), ["x"])
