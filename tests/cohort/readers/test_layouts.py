"""The commands of docs/cohorts.md on small files of their layouts: rows of the documented columns."""

import gzip
import re
import shlex

import openpyxl
import pytest

from cohort.manifest import Cohort
from study.cli import main
from tests.cohort.made_images import encode, random_image
from tests.conftest import REPOSITORY

ROWS = 30
PAGE = (REPOSITORY / "docs/cohorts.md").read_text()
COMMANDS = {
    row[1]: row[2].replace("\\|", "|")
    for row in re.finditer(r"^\| ([^|]+) \| `(radtune (?:\\\||[^|`])+)` \|", PAGE, re.M)
}


def draw(names):
    from pathlib import Path

    for n, name in enumerate(names):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            encode(random_image(12, 12, seed=n), "JPEG" if path.suffix.lower() != ".png" else "PNG")
        )


def write(path, header, rows, delimiter=",", encoding="utf-8"):
    from pathlib import Path

    lines = [*([header] if header else []), *(delimiter.join(map(str, row)) for row in rows)]
    data = ("\n".join(lines) + "\n").encode(encoding)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(gzip.compress(data) if path.endswith(".gz") else data)


N = range(ROWS)
SPLIT = [("train", "valid", "test")[n // 2 % 3] for n in N]
QUOTED = ["\"['Eczema', 'Urticaria']\"", "['Eczema']", "\"['Urticaria', 'Eczema']\"", "['Urticaria']"]


def chexpert_plus():
    names = [f"train/patient{n // 2:05}/study1/view{n % 2}_frontal" for n in N]
    draw([f"PNG/{name}.png" for name in names])
    rows = [(f"{name}.jpg", f"patient{n // 2:05}", SPLIT[n]) for n, name in enumerate(names)]
    write("df_chexpert_plus_240401.csv", "path_to_image,deid_patient_id,split", rows)
    cells = [("null", "0.0", "1.0", "-1.0")[n % 4] for n in N]
    lines = [
        [f'{{"path_to_image": "{names[n]}.jpg", "Edema": {cells[n]}, "Fracture": {cells[n - 1]}}}'] for n in N
    ]
    write("impression_fixed.json.jsonl", None, lines)


def brax():
    draw([f"images/id_{n // 2}/Study_{n}.png" for n in N])
    rows = [(f"images/id_{n // 2}/Study_{n}.png", f"id_{n // 2}", n % 3 - 1, n // 2 % 2) for n in N]
    write("master_spreadsheet_update.csv", "PngPath,PatientID,Edema,Fracture", rows)


def vinbigdata():
    draw([f"train/{n:032x}.png" for n in N])
    rows = []
    for n in N:
        for r in range(3):
            found = r < n % 4
            rows.append(
                (
                    f"{n:032x}",
                    "Cardiomegaly" if found else "No finding",
                    3 if found else 14,
                    f"R{r}",
                    *("1234" if found else [""] * 4),
                )
            )
    write("train.csv", "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", rows)


def google():
    draw([f"nih/{n // 2:08}_{n % 2:03}.png" for n in N])
    rows = [
        (
            f"{n // 2:08}_{n % 2:03}.png",
            n // 2,
            "YES" if n % 3 else "NO",
            "NO" if n % 3 else "YES",
            ("validation", "test")[n // 2 % 2],
        )
        for n in N
    ]
    write(
        "google2019_nih-chest-xray-labels.csv.gz",
        "Image Index,Patient ID,Fracture,Airspace opacity,Set Id",
        rows,
    )


def nih_lists():
    draw([f"nih/{n // 2:08}_{n % 2:03}.png" for n in N])
    rows = [(f"{n // 2:08}_{n % 2:03}.png", n % 2, n % 3 // 2) for n in N]
    write("train_official.txt", None, rows[:20], " ")
    write("test_official.txt", None, rows[20:], " ")


def siim():
    draw([f"dicom-images-train/{n}.png" for n in N])
    write(
        "train-rle.csv",
        "ImageId, EncodedPixels",
        [(n, " -1" if n % 3 else f" {n} 12 400 3 {n} 5") for n in N],
    )


def rsna():
    draw([f"stage_2_train_images/{n:08x}-a.png" for n in N])
    rows = [
        (f"{n:08x}-a", *([""] * 4), 0) if n % 2 else (f"{n:08x}-a", b, 2, 3, 4, 1)
        for n in N
        for b in range(1 + n % 2 * 0 + (n % 4 == 0))
    ]
    write("stage_2_train_labels.csv", "patientId,x,y,width,height,Target", rows)


def tbx11k():
    draw([f"imgs/{c}/{c[0]}{n:04}.png" for c in ("health", "sick", "tb") for n in range(10)])


def taix_ray():
    draw([f"data/{n:08x}.png" for n in N])
    write(
        "metadata/annotation.csv",
        "UID,HeartSize,PulmonaryCongestion",
        [(f"{n:08x}", n % 5, n % 3) for n in N],
    )
    write("metadata/split.csv", "UID,split", [(f"{n:08x}", ("train", "val", "test")[n % 3]) for n in N])


def kermany():
    names = [
        f"chest_xray/{s}/PNEUMONIA/person{n}_bacteria_{n}.jpeg"
        for i, s in enumerate(("train", "val", "test"))
        for n in range(6 * i, 6 * i + 6)
    ]
    names += [
        f"chest_xray/{s}/NORMAL/IM-{n:04}-0001.jpeg"
        for i, s in enumerate(("train", "val", "test"))
        for n in range(6 * i, 6 * i + 6)
    ]
    draw(names)


def pad_ufes():
    draw([f"images/PAT_{n // 2}_{n}_{n * 7}.png" for n in N])
    rows = [
        (
            f"PAT_{n // 2}",
            n,
            ("NEV", "BCC", "ACK")[n // 2 % 3],
            f"PAT_{n // 2}_{n}_{n * 7}.png",
            50 + n,
            n % 4,
            "True",
        )
        for n in N
    ]
    write("metadata.csv", "patient_id,lesion_id,diagnostic,img_id,age,fitspatrick,itch", rows)


def scin():
    draw([f"images/-{n}{k}.png" for n in N for k in range(2)])
    rows = [(f"-{n}", f"dataset/images/-{n}0.png", f"dataset/images/-{n}1.png", "") for n in N]
    write("scin_cases.csv", "case_id,image_1_path,image_2_path,image_3_path", rows)
    write(
        "scin_labels.csv",
        "case_id,dermatologist_skin_condition_on_label_name",
        [(f"-{n}", QUOTED[n % 4]) for n in N],
    )


def aptos():
    draw([f"train_images/{n:012x}.png" for n in N])
    write("train.csv", "id_code,diagnosis", [(f"{n:012x}", n % 5) for n in N])


def eyepacs():
    draw([f"train/{n // 2 + 10}_{('left', 'right')[n % 2]}.jpeg" for n in N])
    write("trainLabels.csv", "image,level", [(f"{n // 2 + 10}_{('left', 'right')[n % 2]}", n % 5) for n in N])


def messidor():
    draw([f"IMAGES/IM{n:06}.JPG" for n in N])
    write(
        "messidor_data.csv",
        "image_id,adjudicated_dr_grade,adjudicated_dme",
        [(f"IM{n:06}.jpg", n % 5 if n else "", 0) for n in N],
    )


def odir():
    draw([f"Training_Images/{n}_{side}.jpg" for n in N for side in ("left", "right")])
    book = openpyxl.Workbook()
    book.active.append(
        ["ID", "Patient Age", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "N", "D", "G"]
    )
    for n in N:
        book.active.append(
            [
                n,
                60,
                f"{n}_left.jpg",
                f"{n}_right.jpg",
                "normal fundus\uff0ccataract",
                int(n % 3 == 0),
                int(n % 3 == 1),
                int(n % 3 == 2),
            ]
        )
    book.save("ODIR-5K_Training_Annotations.xlsx")


def brset():
    draw([f"fundus_photos/img{n:05}.jpg" for n in N])
    rows = [
        (f"img{n:05}", n // 2, 1 + n % 2, n // 2 % 2, n // 2 % 3 // 2, ("no", "yes")[n // 2 % 2]) for n in N
    ]
    write(
        "labels_brset.csv", "image_id,patient_id,exam_eye,diabetic_retinopathy,macular_edema,diabetes", rows
    )


def rfmid():
    sides = ("Training", "Validation", "Test")
    draw([f"RFMiD/{side}/{n}.png" for side in sides for n in range(1, 11)])
    for side in sides:
        write(f"{side}.csv", "ID,Disease_Risk,DR", [(n, n % 2, 0) for n in range(1, 11)])


def busi():
    draw(
        [
            f"Dataset_BUSI_with_GT/{c}/{c} ({n}){end}.png"
            for c in ("benign", "malignant", "normal")
            for n in range(10)
            for end in ("", "_mask")
        ]
    )


def covid():
    draw(
        [
            f"COVID-19_Radiography_Dataset/{c}/{kind}/{c}-{n}.png"
            for c in ("COVID", "Normal")
            for kind in ("images", "masks")
            for n in range(15)
        ]
    )


def cbis():
    header = (
        "patient_id,breast_density,left or right breast,image view,abnormality id,pathology,image file path"
    )
    names = []
    for at, side in enumerate(("train", "test")):
        rows = []
        for n in range(15 * at, 15 * at + 15):
            path = f"Mass-Training_P_{n:05}_LEFT_CC/1.3.6.{n}/1.3.7.{n}/000000"
            names.append(f"CBIS/{path}.png")
            for k in range(1 + (n % 3 == 0)):
                rows.append(
                    (f"P_{n:05}", 3, "LEFT", "CC", k + 1, ("MALIGNANT", "BENIGN")[(n + k) % 2], f"{path}.dcm")
                )
        write(f"mass_case_description_{side}_set.csv", header, rows)
    draw(names)


def embed():
    draw([f"png/{n // 2}/{n}.png" for n in N])
    rows = [(f"/mnt/NAS2/mammo/anon_dicom/{n // 2}/{n}.dcm", n // 4, n // 2, "LR"[n % 2], "MLO") for n in N]
    write(
        "EMBED_OpenData_metadata.csv",
        "anon_dicom_path,empi_anon,acc_anon,ImageLateralityFinal,ViewPosition",
        rows,
    )
    rows = [(n // 4, n // 2, "LR"[n % 2], "NBS"[n % 3]) for n in N]
    write("EMBED_OpenData_clinical.csv", "empi_anon,acc_anon,side,asses", rows)


def kather():
    draw(
        [
            f"kather/{root}/{c}/{c}-{n}.png"
            for root in ("NCT-CRC-HE-100K", "CRC-VAL-HE-7K")
            for c in ("ADI", "TUM")
            for n in range(10)
        ]
    )


def few_shot():
    draw([f"MESSIDOR/{n}.png" for n in N])
    write("MESSIDOR_train.csv", ",Path,noDR,mildDR", [(n, f"MESSIDOR/{n}.png", n % 2, 1 - n % 2) for n in N])


def flair():
    draw([f"EYEPACS/{n}.png" for n in N])
    write(
        "01_EYEPACS.csv",
        ",image,atributes,categories",
        [(n, f"EYEPACS/{n}.png", "[]", QUOTED[n % 4]) for n in N],
    )


def hospital():
    draw([f"export/IM{n:04}.jpg" for n in N])
    rows = [(f"IM{n:04}", f"{n // 2:03}", ("ja", "nein")[n // 2 % 2], "Gr\u00f6\u00dfe") for n in N]
    write("liste.csv", "Datei;PatientenID;Befund;Bemerkung", rows, ";", "latin-1")


def excel():
    draw([f"export/IM{n:04}.jpg" for n in N])
    book = openpyxl.Workbook()
    for row in [
        ("Datei", "PatientenID", "Befund"),
        *((f"IM{n:04}", f"{n // 2:03}", ("ja", "nein")[n // 2 % 2]) for n in N),
    ]:
        book.active.append(row)
    book.save("liste.xlsx")


LAYOUTS = {
    "CheXpert Plus": (chexpert_plus, {"Edema": 7, "Fracture": 7}, 15),
    "BRAX": (brax, {"Edema": 10, "Fracture": 14}, 15),
    "VinBigData": (vinbigdata, {"Cardiomegaly": 14, "No finding": 16}, 30),
    "NIH, Google's labels": (google, {"Fracture": 20, "Airspace opacity": 10}, 15),
    "NIH, lists of one-hot labels": (nih_lists, {"Atelectasis": 15, "Hernia": 10}, 15),
    "RSNA Pneumonia": (rsna, {"Target": 15}, 30),
    "TBX11K": (tbx11k, {"health": 10, "sick": 10, "tb": 10}, 30),
    "TAIX-Ray": (taix_ray, {"HeartSize": 24, "PulmonaryCongestion": 20}, 30),
    "Kermany": (kermany, {"NORMAL": 18, "PNEUMONIA": 18}, 36),
    "PAD-UFES-20": (pad_ufes, {"ACK": 10, "BCC": 10, "NEV": 10}, 15),
    "SCIN": (scin, {"Eczema": 46, "Urticaria": 44}, 30),
    "APTOS 2019": (aptos, {"diagnosis": 18}, 30),
    "EyePACS 2015": (eyepacs, {"level": 18}, 15),
    "Messidor-2": (messidor, {"adjudicated_dr_grade": 18}, 30),
    "ODIR-5K": (odir, {"N": 20, "D": 20, "G": 20}, 30),
    "BRSET, mBRSET": (brset, {"diabetic_retinopathy": 14, "macular_edema": 10, "diabetes": 14}, 15),
    "RFMiD": (rfmid, {"Disease_Risk": 15}, 30),
    "BUSI": (busi, {"benign": 10, "malignant": 10, "normal": 10}, 30),
    "COVID-19 Radiography": (covid, {"COVID": 15, "Normal": 15}, 30),
    "CBIS-DDSM": (cbis, {"BENIGN": 20, "MALIGNANT": 20}, 30),
    "EMBED": (embed, {"B": 10, "N": 10, "S": 10}, 8),
    "Kather, NCT-CRC": (kather, {"ADI": 20, "TUM": 20}, 40),
    "Few-shot suites, one-hot": (few_shot, {"noDR": 15, "mildDR": 15}, 30),
    "FLAIR's tables": (flair, {"Eczema": 23, "Urticaria": 22}, 30),
    "hospital's export": (hospital, {"Befund": 16}, 15),
    "Excel list": (excel, {"Befund": 16}, 15),
}
REFUSED = {
    "SIIM-ACR": (siim, "holds no labels but run lengths of masks"),
    "PCam": (lambda: write("camelyonpatch_level_2_split_train_y.h5", "x", []), "holds arrays"),
    "Precomputed embeddings": (lambda: write("precomputed_image_embeddings.npz", "x", []), "holds arrays"),
}
BY_NAME = {"chexpert", "mimic-cxr", "padchest", "vindr-cxr", "nih", "iu-xray", "isic", "medmnist"}
"""Readers whose layouts `test_releases.py` and `test_iu_xray.py` have."""


def run(name, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make()
    return main([*shlex.split(COMMANDS[name])[1:], "--out", "cohort"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_is_read_by_its_command(name, tmp_path, monkeypatch):
    make, positives, patients = LAYOUTS[name]
    assert run(name, tmp_path, monkeypatch, make) == 0
    cohort = Cohort.open(tmp_path / "cohort")
    found = dict(zip(cohort.labels, (cohort.targets_NC() == 1).sum(axis=0).tolist(), strict=True))
    assert found == positives and len(set(cohort.column("patient"))) == patients
    assert cohort.present.num_rows == cohort.table.num_rows


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_is_not_read_is_refused_with_the_remedy(name, tmp_path, monkeypatch, capsys):
    make, message = REFUSED[name]
    assert run(name, tmp_path, monkeypatch, make) != 0
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_every_row_of_the_page_is_tried():
    named = {name for name, command in COMMANDS.items() if command.split()[2] in BY_NAME}
    assert set(COMMANDS) == LAYOUTS.keys() | REFUSED.keys() | named
    assert len(COMMANDS) == PAGE.count("| `radtune cohort ")
