"""What holds for whatever a stranger's file says: it is read, or refused in one line that a person can read.

Each property is called in a confined process, see `tests.hostile.test_properties`, with a folder for its
files.
"""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from cohort.errors import InputError
from tests.cohort.decoders.made_dicom import dicom
from tests.cohort.made_images import cohort_of, encode, random_image, write_images

# Text that parsers trip over beside any other.
WORDS = st.sampled_from(
    [
        *(
            "",
            "0.png",
            "1.png",
            "Edema",
            "1",
            "0",
            "-1",
            "1e308",
            "nan",
            "inf",
            "9" * 30,
            "../x",
            "/",
            "\\",
            "C:",
        ),
        *(
            "..",
            "a\0b",
            '"',
            "'",
            ",",
            "\n",
            "\r",
            "\t",
            "\u2028",
            "\ufeff",
            "\ud7ff",
            "é",
            "=1+1",
            "<b>",
            "%s",
        ),
        *("{0}", "|", ";"),
    ]
)
TEXT = WORDS | st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def for_any(*strategies: st.SearchStrategy) -> Callable:
    """Makes of a property `(folder, *drawn)` one that is called with the folder and a number of examples."""

    def decorate(check: Callable) -> Callable:
        def run(folder: Path, count: int) -> None:
            @settings(
                max_examples=count,
                deadline=None,
                database=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(st.tuples(*strategies))
            def examples(drawn: tuple) -> None:
                refused_or_read(lambda: check(folder, *drawn))

            set_hypothesis_home_dir(folder / "hypothesis")  # the working directory may not be written to
            examples()

        run.__doc__ = check.__doc__
        PROPERTIES[check.__name__] = run
        return run

    return decorate


PROPERTIES: dict[str, Callable[[Path, int], None]] = {}


def refused_or_read(work: Callable[[], object]) -> None:
    """AssertionError, or whatever was raised, where `work` ends in anything but a result or one line."""
    try:
        work()
    except InputError as error:
        message = str(error)
        assert message and "\n" not in message, message
        assert len(message) < 3000, message[:3000]


def changed(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a few of them changed, a piece cut out, or put in."""
    place = st.integers(0, len(data))
    edit = st.tuples(place, st.integers(0, 30), st.binary(max_size=30))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        now = data
        for start, cut, put in edits:
            now = now[:start] + put + now[start + cut :]
        return now

    return st.lists(edit, min_size=1, max_size=4).map(apply)


PNG = encode(random_image(9, 11))
DEEP_PNG = encode(random_image(5, 6).astype(np.uint16) * 257)
COLOUR_PNG = encode(random_image(7, 5, 3))
PALETTE_PNG = encode(random_image(8, 8), mode="P")
JPEG = encode(random_image(16, 16, 3), "JPEG")
TIFF = encode(random_image(16, 16), "TIFF", compression="tiff_lzw")
WEBP = encode(random_image(16, 16, 3), "WebP")
GIF, BMP = (encode(random_image(8, 8), name) for name in ("GIF", "BMP"))
WINDOW = {"WindowCenter": 100, "WindowWidth": 200}
DICOM = dicom(random_image(12, 9), photometric="MONOCHROME1", PixelPaddingValue=3, **WINDOW)
DICOM_16 = dicom(random_image(12, 9).astype(np.int16), BitsStored=12, RescaleSlope=2, RescaleIntercept=-7)
DICOMS = (DICOM, DICOM_16, DICOM[132:])


@for_any(st.binary(max_size=200) | st.one_of(*map(changed, (PNG, DEEP_PNG, COLOUR_PNG, PALETTE_PNG, JPEG))))
def any_bytes_as_an_image(folder, data):
    from cohort.decoding import decode
    from cohort.geometry import Geometry, apply_geometry
    from cohort.intensity import Intensity

    image = decode(data, "a.png", Intensity(0, 65535, "full"))
    assert image.dtype == np.uint8 and image.ndim in (2, 3)
    for mode in ("shortest", "squash", "longest"):
        assert apply_geometry(image, Geometry(16, mode, channels=3)).shape == (16, 16, 3)


@for_any(st.one_of(*map(changed, (TIFF, WEBP, GIF, BMP, *DICOMS))), st.sampled_from(["full", "voi:40,80"]))
def any_bytes_as_an_image_of_other_formats(folder, data, rule):
    from cohort.decoding import decode, room_to_decode
    from cohort.intensity import Intensity

    with room_to_decode(data):
        image = decode(data, "a", Intensity(0, 65535, rule))
    assert image.dtype == np.uint8 and image.ndim in (2, 3)


@for_any(st.one_of(*map(changed, DICOMS)))
def any_bytes_as_a_dicom_table(folder, data):
    from cohort.readers.dicom import COLUMNS, dicom_table

    (folder / "dicom").mkdir(exist_ok=True)
    (folder / "dicom" / "IM0001").write_bytes(data)
    for row in dicom_table(folder / "dicom", b"key").rows:
        assert tuple(row) == COLUMNS and all(cell.isprintable() for cell in row.values())


def table_bytes() -> bytes:
    rows = ["image,patient,view,Edema,Mass", *(f"{i}.png,p{i},PA,{i % 2},{i % 3 == 0:d}" for i in range(6))]
    return "\n".join(rows).encode()


@for_any(st.binary(max_size=300) | changed(table_bytes()))
def any_bytes_as_a_csv_table(folder, data):
    from cohort.readers.source_table import read_source

    (folder / "t.csv").write_bytes(data)
    frame = read_source(folder / "t.csv")
    assert len(frame) and all(cell is None or "\0" not in cell for name in frame for cell in frame[name])


@for_any(
    st.lists(st.tuples(*[TEXT] * 4), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from(["labels", "one"]),
)
def any_cells_as_a_table_of_labels(folder, rows, named, kind):
    """Through to the cohort, with images that are there."""
    from cohort.readers.table import TableOptions, read_table

    if named:
        rows = [(f"{i}.png", f"p{i}", "1" if i % 2 else "0", row[3]) for i, row in enumerate(rows)]
    with open(folder / "t.csv", "w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows([("image", "patient", "Edema", "Finding"), *rows])
    images = folder / "images"
    if not images.exists():
        write_images(images, 8)
    how = {"labels": ["Edema"]} if kind == "labels" else {"label_column": "Finding"}
    cohort = read_table(
        folder / "t.csv",
        images,
        folder / "out",
        TableOptions(image_column="image", patient_column="patient", keep=["Finding"], **how),
    )
    from cohort.summary import describe

    assert describe(cohort)
    for name in cohort.column("file"):
        assert (images / name).resolve().is_relative_to(images.resolve())


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    ids = [f"{i}.png" for i in range(6)]
    columns = {"image": ids, "patient": ids, "age": [1, 2, None, 4, 5, 6], "Edema": [0, 1] * 3}
    pq.write_table(pa.table(columns), sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


@for_any(changed(parquet_bytes()))
def any_bytes_as_a_parquet_table(folder, data):
    from cohort.readers.source_table import read_source

    (folder / "t.parquet").write_bytes(data)
    assert len(read_source(folder / "t.parquet"))


@for_any(
    st.dictionaries(
        TEXT, st.lists(SCALARS | st.dates() | st.datetimes() | st.binary(), max_size=5), max_size=5
    )
)
def any_columns_as_a_parquet_table(folder, columns):
    from cohort.readers.source_table import read_source

    with suppress(pa.ArrowException, ValueError, TypeError, OverflowError):  # Arrow writes no such column
        length = max(map(len, columns.values()), default=0)
        table = pa.table({name: cells + [None] * (length - len(cells)) for name, cells in columns.items()})
        pq.write_table(table, folder / "c.parquet")
        refused_or_read(lambda: read_source(folder / "c.parquet"))


MESH = st.lists(
    st.lists(
        TEXT | st.sampled_from(["Opacity", "Cardiomegaly", "lung", "left", "mild", "normal"]), max_size=4
    ).map("/".join),
    max_size=4,
).map(";".join)


@for_any(st.lists(st.tuples(TEXT, MESH, TEXT, TEXT), min_size=1, max_size=6), TEXT)
def any_cells_as_iu_xray(folder, reports, projection):
    from cohort.readers.iu_xray import read_iu_xray

    images = folder / "images"
    if not images.exists():
        write_images(images, 8)
    with open(folder / "reports.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("uid", "MeSH", "findings", "impression"), *reports])
    with open(folder / "projections.csv", "w", newline="", encoding="utf-8") as file:
        rows = [(row[0], f"{i}.png", "Frontal") for i, row in enumerate(reports)]
        csv.writer(file).writerows([("uid", "filename", "projection"), *rows, ("x", "y", projection)])
    read_iu_xray(folder / "reports.csv", folder / "projections.csv", images, folder / "iu")


def coco() -> dict:
    image = {"id": 1, "file_name": "0.png", "width": 20, "height": 20}
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    mask = one | {"segmentation": {"size": [20, 20], "counts": [10, 20, 370]}}
    polygon = one | {"segmentation": [[1, 1, 9, 1, 9, 9]]}
    return {
        "images": [image],
        "categories": [{"id": 1, "name": "Edema"}],
        "annotations": [one, mask, polygon],
    }


@st.composite
def altered(draw: st.DrawFn, value: object) -> object:
    """The same JSON with some of its values replaced by any."""
    if draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    if isinstance(value, dict):
        return {key: draw(altered(part)) for key, part in value.items()}
    if isinstance(value, list):
        return [draw(altered(part)) for part in value]
    return value


@for_any(altered(coco()) | VALUES, st.sampled_from(["coco", "chexlocalize"]))
def any_json_as_annotations(folder, content, form):
    from cohort.manifest import Cohort
    from cohort.readers.annotations import annotate, read_boxes

    (folder / "boxes.json").write_text(json.dumps(content), encoding="utf-8")
    if not (folder / "c").exists():
        write_images(folder / "images", 3, size=20)
        cohort_of(folder / "images", folder / "c")
    drawn, names = read_boxes(folder / "boxes.json", form)
    annotate(Cohort.open(folder / "c"), drawn, other_names=names)


BOXES = st.lists(st.tuples(*[TEXT] * 6), max_size=5)
HEADERS = {
    "csv": ("image", "label", "x", "y", "w", "h"),
    "vindr": ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max"),
    "siim": ("ImageId", "EncodedPixels", "a", "b", "c", "d"),
    "nih": ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"),
}


@for_any(BOXES, st.sampled_from(sorted(HEADERS)))
def any_cells_as_boxes(folder, rows, form):
    from cohort.readers.annotations import read_boxes

    with open(folder / "boxes.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADERS[form], *rows])
    list(read_boxes(folder / "boxes.csv", form)[0])


@for_any(
    st.text(max_size=200)
    | st.binary(max_size=200)
    | st.from_regex(r"([\[\]{}:,&*!|>?\- \n'\"a1.]{1,4}){1,40}")
)
def any_bytes_as_a_study_file(folder, content):
    from study.study_file import load_config

    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    (folder / "s.yaml").write_bytes(data)
    load_config(folder / "s.yaml")


def study() -> dict:
    from study.study_file import validated

    minimal = {"name": "s", "cohort": "c", "encoder": "pixels", "trainable": "fine_tune"}
    return validated(minimal).model_dump(mode="json")


@for_any(st.deferred(lambda: altered(study())), st.lists(st.tuples(TEXT, TEXT), max_size=2))
def any_values_as_a_study(folder, settings_, assignments):
    """What passes is written and read again as the same."""
    import yaml

    from study.study_file import load_config

    (folder / "s.yaml").write_text(yaml.safe_dump(settings_, allow_unicode=True), encoding="utf-8")
    config = load_config(folder / "s.yaml", [f"{key}={value}" for key, value in assignments])
    (folder / "again.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(folder / "again.yaml") == config


@for_any(
    VALUES
    | st.dictionaries(TEXT, TEXT | st.dictionaries(st.sampled_from(["name", "prompts"]), VALUES), max_size=4)
)
def any_yaml_as_label_names(folder, content):
    import yaml

    from cohort.readers.label_wording import read_wording

    (folder / "names.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    read_wording(str(folder / "names.yaml"))
    if isinstance(content, str) and not re.search(r"\.ya?ml$", content.lower()):
        refused_or_read(lambda: read_wording(content))


def archive_bytes(folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.png", PNG)
        archive.writestr("1.png", PNG)
    return (folder / "whole.zip").read_bytes()


@for_any(st.data())
def any_bytes_as_an_archive(folder, data):
    from cohort.image_files import ImageFiles, climbs_out, inspect_images, list_files

    (folder / "a.zip").write_bytes(data.draw(changed(archive_bytes(folder))))
    names = list_files(folder / "a.zip")
    assert not any(map(climbs_out, names))
    inspect_images(ImageFiles(folder / "a.zip", names))


@for_any(st.data())
def any_metadata_as_a_manifest(folder, data):
    """Signed as by a stranger who knows how: what opens can be described."""
    from cohort.manifest import MANIFEST, Cohort, metadata_checksum
    from cohort.summary import describe

    if not (folder / "c").exists():
        write_images(folder / "images", 6)
        cohort_of(folder / "images", folder / "c")
        (folder / "c" / MANIFEST).rename(folder / "whole.parquet")
    table = pq.read_table(folder / "whole.parquet")
    metadata = data.draw(altered(json.loads(table.schema.metadata[b"radtune"])))
    if isinstance(metadata, dict):
        metadata["checksum"] = metadata_checksum(metadata)
    signed = table.replace_schema_metadata({b"radtune": json.dumps(metadata)})
    pq.write_table(signed, folder / "c" / MANIFEST)
    assert describe(Cohort.open(folder / "c"))


@for_any(st.lists(TEXT, min_size=1, max_size=6), st.lists(TEXT, max_size=6))
def any_names_of_images(folder, names, files):
    from cohort.image_files import ImageFiles, climbs_out
    from cohort.readers.named_files import find_files

    found, _ = find_files(
        [[name] for name in names], [file for file in files if file and not climbs_out(file)], folder
    )
    for file in ImageFiles(folder, [file for file in found if file is not None]).names:
        assert (folder / file.replace("\0", "")).resolve().is_relative_to(folder.resolve())
