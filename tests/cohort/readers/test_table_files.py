"""Tables as groups have them: packed, from spreadsheets, in older encodings, without a header."""

import gzip
import json
import zipfile

import numpy as np
import openpyxl
import pytest

from cohort import parquet_files
from cohort.errors import InputError
from cohort.readers import table_files
from cohort.readers.source_table import label_cells, read_source, source_and_notes

ROWS = [
    ["image", "patient", "age", "Herz"],
    ["a.png", "007", "1,5", "ja"],
    ["b.png", "M\u00fcller", "2", "nein"],
]
TEXTS = [["a.png", "007", "1.5", "ja"], ["b.png", "M\u00fcller", "2", "nein"]]


def text(delimiter):
    return "\n".join(delimiter.join(row) for row in ROWS) + "\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ";"), ("t.tsv", "\t"), ("t.txt", "|")])
def test_semicolons_tabs_encodings_and_decimal_commas(tmp_path, name, delimiter, encoding):
    (tmp_path / name).write_bytes(text(delimiter).encode(encoding))
    frame, notes = source_and_notes(tmp_path / name)
    assert frame.columns.tolist() == ROWS[0] and frame.to_numpy().tolist() == TEXTS
    assert any("read as cp1252" in note for note in notes) == (encoding == "cp1252")
    np.testing.assert_array_equal(label_cells(frame, ["Herz"])[:, 0], [1, 0])


def test_an_encoding_that_is_named_is_taken_and_another_word_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("image,who\na.png,\u0416\n".encode("cp1251"))
    assert source_and_notes(tmp_path / "t.csv", encoding="cp1251")[0]["who"].tolist() == ["\u0416"]
    for name in ("martian", "base64"):
        with pytest.raises(InputError, match=f"--encoding '{name}': no such encoding"):
            source_and_notes(tmp_path / "t.csv", encoding=name)


def test_utf_8_with_a_damaged_byte_is_not_taken_for_another_encoding(tmp_path):
    (tmp_path / "t.csv").write_bytes("image,who\na,\u00e4\u00f6\u00fc\u00df\n".encode() + b"b,\xff\n")
    with pytest.raises(InputError, match="UTF-8 but for single bytes"):
        read_source(tmp_path / "t.csv")


@pytest.mark.parametrize("packed", ["t.csv.gz", "t.csv.zip"])
def test_packed_tables_are_read_and_bombs_refused(tmp_path, packed, monkeypatch):
    pack(tmp_path / packed, text(";").encode())
    assert read_source(tmp_path / packed).to_numpy().tolist() == TEXTS
    monkeypatch.setattr(parquet_files, "LARGEST_TABLE", 2**16)
    pack(tmp_path / packed, b"image,patient\n" + b"a,b\n" * 2**20)
    with pytest.raises(InputError, match="has more than 65,536 bytes"):
        read_source(tmp_path / packed)


def pack(path, data):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.csv", data)
            archive.writestr("__MACOSX/._t.csv", b"x")


@pytest.mark.parametrize("packed", ["t.csv.gz", "t.csv.zip", "t.xlsx"])
def test_damaged_packed_tables_are_refused_in_a_line(tmp_path, packed):
    (tmp_path / packed).write_bytes(b"PK\3\4 nonsense")
    with pytest.raises(InputError, match="not a readable"):
        read_source(tmp_path / packed)


def test_an_archive_of_several_tables_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(InputError, match="has 2 files, and a packed table must be one"):
        read_source(tmp_path / "t.zip")


def test_an_excel_workbook_is_read_by_its_first_sheet(tmp_path):
    book = openpyxl.Workbook()
    for row in (["image", "patient", "Edema", "age"], ["a.png", "007", 1, 1.5], [], ["b.png", 8, True, None]):
        book.active.append(row)
    book.create_sheet("notes").append(["x"])
    book.save(tmp_path / "t.xlsx")
    frame, notes = source_and_notes(tmp_path / "t.xlsx")
    assert frame.to_numpy().tolist() == [["a.png", "007", "1", "1.5"], ["b.png", "8", "True", None]]
    assert [row.rpartition(" ")[2] for row in frame.index] == ["2", "4"]
    assert "1 others are not" in notes[0]


def test_json_lines_are_read_with_lists_as_text(tmp_path):
    rows = [{"image": "a.png", "labels": ["x", "y"], "n": 1}, {"image": "b.png", "extra": None, "n": 0.5}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    frame = read_source(tmp_path / "t.jsonl")
    assert frame.columns.tolist() == ["image", "labels", "n", "extra"]
    assert frame.to_numpy().tolist() == [["a.png", '["x", "y"]', "1", None], ["b.png", None, "0.5", None]]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    assert read_source(tmp_path / "t.json").to_numpy().tolist() == frame.to_numpy().tolist()
    (tmp_path / "t.json").write_text('{"image": "a.png"}')
    with pytest.raises(InputError, match="a list of objects"):
        read_source(tmp_path / "t.json")
    (tmp_path / "t.jsonl").write_text('{"image": {"a": 1}}\n')
    with pytest.raises(InputError, match="line 1 is no object of plain values"):
        read_source(tmp_path / "t.jsonl")


def test_a_list_without_a_header_needs_names_of_its_columns(tmp_path):
    """As NIH's official lists."""
    (tmp_path / "test_official.txt").write_text("00000003_000.png 0 0 1\n00000003_001.png 0 1 0\n")
    with pytest.raises(InputError, match=r"its first row is no header .*--columns .* its 4 columns"):
        read_source(tmp_path / "test_official.txt")
    columns = ["image", "Atelectasis", "Mass", "Hernia"]
    frame, _ = source_and_notes(tmp_path / "test_official.txt", columns=columns)
    assert frame.columns.tolist() == columns and frame.index[0].endswith("row 1")
    np.testing.assert_array_equal(label_cells(frame, columns[1:]), [[0, 0, 1], [0, 1, 0]])


def test_tables_of_other_programs_are_refused_with_the_remedy(tmp_path):
    (tmp_path / "t.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(InputError, match=r"save it as \.csv or \.xlsx"):
        read_source(tmp_path / "t.xls")


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["YES", "No", "y"], [1, 0, 1]),
        (["Positive", "negative", ""], [1, 0, np.nan]),
        (["1.00", "0", "-1.0"], [1, 0, -1]),
    ],
)
def test_words_for_yes_and_no_are_label_cells(tmp_path, words, values):
    (tmp_path / "t.csv").write_text("x,i\n" + "".join(f"{word},1\n" for word in words))
    np.testing.assert_array_equal(label_cells(read_source(tmp_path / "t.csv"), ["x"])[:, 0], values)


def test_a_workbook_that_unpacks_to_too_much_or_names_far_cells_is_refused_or_read_within_bounds(
    tmp_path, monkeypatch
):
    book = openpyxl.Workbook()
    book.active.append(["image", "Edema"])
    book.active.append(["a.png", 1])
    book.save(tmp_path / "t.xlsx")
    far = tmp_path / "far.xlsx"
    with zipfile.ZipFile(tmp_path / "t.xlsx") as old, zipfile.ZipFile(far, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'<row r="2"', b'<row r="99999999999"'))
    with pytest.raises(InputError, match="there are no rows below the header"):
        read_source(far)
    monkeypatch.setattr(table_files, "LARGEST_WORKBOOK", 100)
    with pytest.raises(InputError, match="unpacks to more than 100 bytes"):
        read_source(tmp_path / "t.xlsx")
