"""Tables that want to hang, to fill the memory or to end in a traceback: refused in one line."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cohort.made_images import write_images
from tests.hostile.commands import radtune
from tests.hostile.confinement import confined, refusal

ROWS = [f"{i}.png,p{i},{i % 2}" for i in range(12)]
GOOD = "image,patient,Edema\n" + "\n".join(ROWS) + "\n"


def build(folder, table, labels="Edema", **bounds):
    """`radtune cohort table` over twelve images, in confinement."""
    write_images(folder / "images", 12)
    arguments = ("--images", "images", "--image-column", "image", "--patient-column", "patient")
    arguments += ("--labels", labels, "--out", "cohort")
    return confined(radtune, folder, "cohort", "table", "--table", table, *arguments, writes=folder, **bounds)


def test_an_ordinary_table_is_read_in_confinement(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    outcome = build(tmp_path, "t.csv")
    assert outcome.code == 0, outcome.output
    assert (tmp_path / "cohort" / "cohort.parquet").exists()


CSVS = {
    "a cell of 100 MB": (GOOD + "x" * 100_000_000 + ",p,1\n", "line 14: has more than 16,777,216 characters"),
    "a quoted cell of 100 MB in short lines": (
        GOOD + '"' + ("x" * 79 + "\n") * 1_250_000 + '",p,1\n',
        "field larger than field limit",
    ),
    "a cell of 200 KB": (GOOD + "x" * 200_000 + ",p,1\n", "field larger than field limit"),
    "two columns of one name": ("image,patient,Edema,Edema\n0.png,p,1,0\n", "2 columns are called 'Edema'"),
    "an id with a NUL": (GOOD + "a\0.png,p,1\n", "row 14: column 'image' has a cell with a NUL"),
    "a column with a NUL": ("image,patient,Edema,a\0b\n0.png,p,1,1\n", "is called what cannot be printed"),
    "bytes of no encoding": (b"\xff\xfe\x00\x80" * 100, "not a readable CSV or Parquet table"),
    "100,000 columns": (",".join(map(str, range(100_000))) + "\n", "more than 20,000 columns"),
    "a quote without end": (GOOD + '"', "unexpected end of data"),
    "no line": ("", "its first row is empty"),
    "a header alone": ("image,patient,Edema\n", "no rows below the header"),
}


@pytest.mark.parametrize("what", CSVS)
def test_a_hostile_csv_table_is_refused_in_one_line(tmp_path, what):
    content, reason = CSVS[what]
    (tmp_path / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    message = refusal(build(tmp_path, "t.csv"))
    assert message.startswith("t.csv") and re.search(reason, message), message
    assert not (tmp_path / "cohort").exists()


def test_10000_label_columns_are_read(tmp_path):
    """Each was once looked for in the list of all."""
    labels = [f"L{c}" for c in range(10_000)]
    rows = [f"{i}.png,p{i}," + ",".join("01"[(c + i) % 3 == 0] for c in range(10_000)) for i in range(12)]
    (tmp_path / "t.csv").write_text(f"image,patient,{','.join(labels)}\n" + "\n".join(rows) + "\n")
    outcome = build(tmp_path, "t.csv", ",".join(labels))
    assert outcome.code == 0, outcome.output[-2000:]


def parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)


def test_a_parquet_table_that_unpacks_to_the_memorys_size_is_refused(tmp_path):
    """Two hundred million rows of one value are a few kilobytes, as a dictionary and runs."""
    schema = pa.schema([("image", pa.int8())])
    with pq.ParquetWriter(tmp_path / "t.parquet", schema, compression="zstd") as writer:
        chunk = pa.table({"image": pa.array(np.zeros(20_000_000, dtype=np.int8))})
        for _ in range(10):
            writer.write_table(chunk)
    assert (tmp_path / "t.parquet").stat().st_size < 1 << 20
    assert "more than 10,000,000 rows" in refusal(build(tmp_path, "t.parquet"))


def test_a_parquet_cell_that_is_repeated_is_not_unpacked_before_it_is_refused(tmp_path):
    """A text of 10 MB in a million rows: 10 MB on the disk, 10 TB as strings."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, dtype=np.int32)), ["x" * 10_000_000])
    table = pa.table({"image": text, "patient": text, "Edema": pa.array(np.zeros(1_000_000, dtype=np.int8))})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd")
    assert "more than 536,870,912 bytes" in refusal(build(tmp_path, "t.parquet"))


def test_other_hostile_parquet_tables_are_refused_in_one_line(tmp_path):
    ids = [f"{i}.png" for i in range(12)]
    twice = pa.Table.from_arrays(
        [pa.array(ids), pa.array(ids), pa.array([1] * 12)], ["image", "image", "Edema"]
    )
    pq.write_table(twice, tmp_path / "twice.parquet")
    parquet(tmp_path / "nul.parquet", {"image": ["a\0", *ids[1:]], "patient": ids, "Edema": [0, 1] * 6})
    parquet(tmp_path / "lists.parquet", {"image": [[1, 2]] * 12, "patient": ids, "Edema": [0, 1] * 6})
    parquet(tmp_path / "bytes.parquet", {"image": [b"\xff"] * 12, "patient": ids, "Edema": [0, 1] * 6})
    (tmp_path / "no.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    long = {"image": ["x" * 200_000, *ids[1:]], "patient": ids, "Edema": [0, 1] * 6}
    parquet(tmp_path / "long.parquet", long)
    reasons = {
        "twice": "2 columns are called 'image'",
        "nul": "a cell with a NUL",
        "lists": "column 'image' holds lists",
        "bytes": "stands in an earlier row already",
        "no": "not a readable CSV or Parquet table",
        "long": "a cell with more than 131,072 characters",
    }
    for name, reason in reasons.items():
        assert reason in refusal(build(tmp_path, f"{name}.parquet"))


def test_any_flipped_byte_of_a_parquet_table_ends_in_a_cohort_or_in_one_line(tmp_path):
    ids = [f"{i}.png" for i in range(12)]
    parquet(tmp_path / "t.parquet", {"image": ids, "patient": ids, "Edema": [0, 1] * 6})
    outcome = confined(read_flipped, tmp_path / "t.parquet", writes=tmp_path)
    assert outcome.code == 0, outcome.output


def read_flipped(path):
    """Read the table with each of its bytes changed."""
    from cohort.errors import InputError
    from cohort.readers.source_table import read_source

    data = path.read_bytes()
    flipped = path.with_name("flipped.parquet")
    for position in range(len(data)):
        flipped.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        try:
            read_source(flipped)
        except InputError as error:
            assert "\n" not in str(error)
