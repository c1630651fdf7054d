"""The table of a folder of DICOM files: its columns, its pseudonyms, and that no name gets out."""

import csv
import zipfile

import numpy as np
import pytest
from pydicom import uid

from cohort.errors import InputError
from cohort.geometry import Geometry
from cohort.image_store import image_store
from cohort.readers.dicom import COLUMNS, dicom_table, pseudonym_key
from cohort.readers.table import TableOptions, read_table
from study.cli import main
from tests.cohort.decoders.made_dicom import dicom, written
from tests.cohort.made_images import random_image

NAME = "ZAPHODBEEBLEBROX"
PLANTED = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientComments"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "RequestingPhysician"),
    *("NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "ScheduledPerformingPhysicianName"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
    *("StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments", "AdditionalPatientHistory"),
    *("AccessionNumber", "StudyID", "PatientAddress", "PatientTelephoneNumbers", "EthnicGroup"),
    *("Occupation", "RequestedProcedureDescription", "DerivationDescription", "DeviceSerialNumber"),
    *("MedicalRecordLocator", "PatientReligiousPreference"),
)
WINDOW = {"WindowCenter": 128, "WindowWidth": 256}


def person(i, **attributes):
    return dicom(
        random_image(24, 20 + i, seed=i),
        PatientID=f"{NAME}-{i // 2}",
        StudyInstanceUID=f"1.2.840.99.{i // 2}",
        PatientSex="F",
        PatientAge="063Y",
        Modality="DX",
        ViewPosition="PA",
        Manufacturer="Maker",
        **WINDOW,
        **attributes,
    )


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "export"
    (folder / "ST1").mkdir(parents=True)
    for i in range(30):
        (folder / "ST1" / f"IM{i:04}").write_bytes(person(i, **dict.fromkeys(PLANTED, f"{NAME}^{i}")))
    return folder


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_per_image_with_its_columns_and_pseudonyms(export, tmp_path, capsys):
    assert main(["cohort", "dicom", str(export), "--out", str(tmp_path / "t.csv")]) == 0
    rows = rows_of(tmp_path / "t.csv")
    assert len(rows) == 30 and tuple(rows[0]) == COLUMNS
    assert rows[3]["image"] == "ST1/IM0003" and rows[0]["PatientAge"] == "63" and rows[0]["PatientSex"] == "F"
    assert rows[0]["PatientID"] == rows[1]["PatientID"] != rows[2]["PatientID"]
    assert len({row["StudyInstanceUID"] for row in rows}) == 15
    assert "PatientID and StudyInstanceUID are pseudonyms" in capsys.readouterr().out


def test_a_key_gives_the_same_pseudonyms_again_and_no_key_others(export, tmp_path):
    key = pseudonym_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0 and pseudonym_key(tmp_path / "key") == key
    assert dicom_table(export, key) == dicom_table(export, key) != dicom_table(export, pseudonym_key(None))
    (tmp_path / "key").write_text("hello")
    with pytest.raises(InputError, match="no key of pseudonyms"):
        pseudonym_key(tmp_path / "key")


def test_identifiers_are_kept_where_that_is_asked_for(export):
    assert dicom_table(export, None).rows[0]["PatientID"] == f"{NAME}-0"


def test_what_is_no_single_image_is_left_out_and_counted(export):
    (export / "several").write_bytes(person(1, NumberOfFrames=3))
    (export / "report.dcm").write_bytes(
        dicom(np.zeros((2, 2), np.uint8), Rows=None, SOPClassUID=uid.BasicTextSRStorage)
    )
    (export / "damaged.dcm").write_bytes(b"no")
    (export / "notes.txt").write_text("notes")
    table = dicom_table(export, None)
    assert len(table.rows) == 30
    assert [line for line in table.remarks if line.startswith("left out")] == [
        "left out: 1 no DICOM",
        "left out: 1 of several frames",
        "left out: 1 without an image",
    ]


def test_what_may_name_people_is_pointed_out(tmp_path):
    (tmp_path / "Smith").mkdir()
    (tmp_path / "Smith" / "1.dcm").write_bytes(
        dicom(random_image(8, 8), PatientName="SMITH^ANNA", BurnedInAnnotation="YES")
    )
    assert dicom_table(tmp_path, None).remarks == [
        "1 images have no PatientID; fill the column in before the split is drawn",
        "1 paths hold the patient's name or number; rename the files to hide them",
        "1 images state burned-in annotations, which may name people",
    ]


def test_a_zip_archive_is_a_folder(export, tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for path in (export / "ST1").iterdir():
            archive.write(path, f"ST1/{path.name}")
    assert dicom_table(tmp_path / "export.zip", None).rows == dicom_table(export, None).rows


def test_a_folder_without_dicom_is_refused(tmp_path):
    with pytest.raises(InputError, match="no DICOM image there; give their folder"):
        dicom_table(tmp_path, None)


@pytest.mark.parametrize("ages", [("063Y", "63"), ("006M", "0.5"), ("030D", "0.08"), ("", ""), ("old", "")])
def test_ages_are_years(tmp_path, ages):
    ds = dicom(random_image(8, 8), PatientAge=ages[0])
    (tmp_path / "a.dcm").write_bytes(ds)
    assert dicom_table(tmp_path, None).rows[0]["PatientAge"] == ages[1]


def test_no_name_out_of_30_attributes_gets_into_any_output(export, tmp_path, monkeypatch, capsys):
    """From the table to the manifest and the decoded images; what is printed too, damaged files included."""
    monkeypatch.chdir(tmp_path)
    whole = (export / "ST1" / "IM0000").read_bytes()
    (export / "ST1" / "cut").write_bytes(whole[: len(whole) - 100])
    assert main(["cohort", "dicom", "export", "--out", "t.csv"]) == 0
    rows = rows_of("t.csv")
    with open("labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "Edema"])
        writer.writeheader()
        writer.writerows(row | {"Edema": str(n // 2 % 2)} for n, row in enumerate(rows))
    command = ["cohort", "table", "--table", "labels.csv", "--images", "export", "--image-column", "image"]
    columns = ["--patient-column", "PatientID", "--labels", "Edema", "--keep", "PatientSex,PatientAge"]
    assert main([*command, *columns, "--skip-unreadable", "--out", "cohort"]) == 0
    from cohort.manifest import Cohort

    store = image_store(Cohort.open("cohort"), Geometry(16, "squash", channels=1), "cache")
    assert len(store) == 30
    printed = capsys.readouterr()
    said = [printed.out.encode(), printed.err.encode()]
    said += [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and export not in p.parents]
    assert all(NAME.lower().encode() not in text.lower() for text in said)


def test_thirty_attributes_are_planted(export):
    import pydicom

    ds = pydicom.dcmread(export / "ST1" / "IM0000")
    assert sum(NAME in str(element.value) for element in ds) >= 30
    assert written(ds)


def test_the_window_that_is_chosen_is_kept_and_makes_another_cohort(tmp_path):
    (tmp_path / "images").mkdir()
    stored = np.arange(576, dtype=np.uint16).reshape(24, 24)
    windows = {"WindowCenter": [100, 400], "WindowWidth": [100, 100]}
    named = {"WindowCenterWidthExplanation": ["SOFT", "BONE"]}
    for i in range(30):
        data = dicom(np.roll(stored, i * 7, axis=1), **windows, **named)
        (tmp_path / "images" / f"{i:02}").write_bytes(data)
    with open(tmp_path / "t.csv", "w", encoding="utf-8") as file:
        file.writelines(["image,Edema\n", *(f"{i:02},{i % 2}\n" for i in range(30))])
    cohorts = {}
    for rule in ("full", "voi:BONE", "voi:400,100"):
        options = TableOptions(image_column="image", labels=["Edema"], intensity=rule, allow_duplicates=True)
        cohorts[rule] = read_table(tmp_path / "t.csv", tmp_path / "images", tmp_path / rule[-4:], options)
    assert cohorts["full"].intensity is None and cohorts["voi:BONE"].intensity.rule == "voi:BONE"
    assert len({cohort.content_hash for cohort in cohorts.values()}) == 3
    first, bone, numbers = (cohort.files().decode(0) for cohort in cohorts.values())
    assert (bone == numbers).all() and first.mean() > bone.mean() + 50
