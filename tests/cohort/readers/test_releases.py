"""Published data sets in their own layout: rows of the documented columns, small images under their names."""

import gzip

import numpy as np
import pytest

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14
from cohort.readers.chexpert import read_chexpert
from cohort.readers.isic import read_isic
from cohort.readers.medmnist import MedmnistOptions, read_medmnist
from cohort.readers.mimic_cxr import MimicOptions, read_mimic_cxr
from cohort.readers.nih import read_nih
from cohort.readers.padchest import PadchestOptions, read_padchest
from cohort.readers.release import ReleaseOptions
from cohort.readers.vindr_cxr import VindrOptions, read_vindr_cxr
from tests.cohort.made_images import encode, random_image


def draw(root, names, first=0):
    for n, name in enumerate(names, start=first):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(random_image(12, 12, seed=n)))


def write(path, header, rows):
    text = "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def cells(n):
    """Fourteen cells as CheXpert's: 1, -1, 0 or blank, each label positive somewhere."""
    return [
        "1.0" if c == n % 14 or c == (n + 5) % 14 else ["", "0.0", "-1.0"][(n + c) % 3] for c in range(14)
    ]


def sides(cohort):
    return [cohort.column("split").count(split) for split in cohort.splits]


def test_chexpert(tmp_path):
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_14)
    view = "view1_frontal", "view2_lateral"
    for table, count, first in (("train.csv", 40, 1), ("valid.csv", 10, 64541)):
        names = [f"{table[:5]}/patient{first + n // 2:05}/study1/{view[n % 2]}.png" for n in range(count)]
        draw(tmp_path / "CheXpert-v1.0-small", names, first)
        rows = [
            (
                f"CheXpert-v1.0-small/{name}",
                "Male",
                60 + n,
                "Lateral" if n % 2 else "Frontal",
                "" if n % 2 else "AP",
                *cells(n),
            )
            for n, name in enumerate(names)
        ]
        write(tmp_path / "CheXpert-v1.0-small" / table, header, rows)
    root = tmp_path / "CheXpert-v1.0-small"
    cohort = read_chexpert(root, root, tmp_path / "cohort", ReleaseOptions())
    assert cohort.labels == CHEXPERT_14 and cohort.reader == "chexpert" and sides(cohort) == [40, 10]
    assert len(set(cohort.column("patient"))) == 25 and cohort.policy.blank == "negative"
    assert "arXiv:1901.07031" in cohort.citation and cohort.column("keep.Age")[0] == 60
    drawn = ReleaseOptions(views=["Frontal"], split="drawn", fractions=[0.6, 0.2, 0.2])
    frontal = read_chexpert(root, root, tmp_path / "cohort", drawn)
    assert len(frontal.images()) == 25 and frontal.splits == ("train", "val", "test")
    with pytest.raises(InputError, match=r"no train\.csv there"):
        read_chexpert(tmp_path / "elsewhere", root, tmp_path / "cohort", ReleaseOptions())


def test_nih(tmp_path):
    names = [f"{n // 2 + 1:08}_{n % 2:03}.png" for n in range(60)]
    draw(tmp_path, [f"images_{n // 30 + 1:03}/images/{name}" for n, name in enumerate(names)])
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    findings = ["No Finding", "Cardiomegaly|Effusion", "Hernia", "Effusion"]
    rows = [
        (n, findings[i // 2 % 4], 0, i // 2 + 1, 58, "M", "PA", 2682, 2749, 0.143, 0.143, "")
        for i, n in enumerate(names)
    ]
    write(tmp_path / "Data_Entry_2017.csv", header, rows)
    (tmp_path / "train_val_list.txt").write_text("\n".join(names[:48]))
    (tmp_path / "test_list.txt").write_text("\n".join(names[48:]))
    cohort = read_nih(tmp_path, tmp_path, tmp_path / "cohort", ReleaseOptions())
    assert cohort.labels == ("Cardiomegaly", "Effusion", "Hernia", "No Finding")
    train, val, test = sides(cohort)
    assert (train + val, test) == (48, 12) and 2 <= val <= 12
    assert cohort.column("keep.Patient Gender")[0] == "M"


def test_mimic_cxr(tmp_path):
    ids = [f"{n:08x}-3fe7e4a7-{n:08x}" for n in range(40)]
    subject, study = [10000032 + n // 4 for n in range(40)], [50414267 + n // 2 for n in range(40)]
    keys = list(zip(ids, study, subject, strict=True))
    draw(tmp_path / "files", [f"p10/p{p}/s{s}/{i}.png" for i, s, p in keys])
    split = ["train", "train", "train", "validate", "test"]
    write(
        tmp_path / "mimic-cxr-2.0.0-split.csv.gz",
        "dicom_id,study_id,subject_id,split",
        [(*key, split[n // 4 % 5]) for n, key in enumerate(keys)],
    )
    write(
        tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns",
        [(i, p, s, "PA", 3056, 2544) for i, s, p in keys],
    )
    write(
        tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz",
        "subject_id,study_id," + ",".join(CHEXPERT_14),
        [(p, s, *cells(n)) for n, (p, s) in enumerate(dict.fromkeys(zip(subject, study, strict=True)))][:-1],
    )
    cohort = read_mimic_cxr(tmp_path, tmp_path / "files", tmp_path / "cohort", MimicOptions())
    assert cohort.flow[:3] == (
        ("rows read", 40),
        ("row in mimic-cxr-2.0.0-split.csv.gz", 40),
        ("row in mimic-cxr-2.0.0-chexpert.csv.gz", 38),
    )
    assert sides(cohort) == [24, 8, 6] and cohort.column("study")[0] == "50414267"
    labels_NC = cohort.targets_NC()
    np.testing.assert_array_equal(labels_NC[0], labels_NC[1])  # two images of one study


def test_vindr_cxr(tmp_path):
    train, test = [f"{n:032x}" for n in range(40)], [f"{n:032x}" for n in range(100, 110)]
    draw(tmp_path, [f"train/{name}.png" for name in train] + [f"test/{name}.png" for name in test])
    labels = ["Aortic enlargement", "Edema", "Other disease", "No finding"]
    rows = [
        (name, f"R{r + 8}", int(r < n % 4), int(r == 0 and n % 4 == 0), 0, int(n % 4 == 0))
        for n, name in enumerate(train)
        for r in range(3)
    ]
    write(tmp_path / "image_labels_train.csv", "image_id,rad_id," + ",".join(labels), rows)
    write(
        tmp_path / "image_labels_test.csv",
        "image_id," + ",".join(labels),
        [(name, n % 2, 0, 0, 1 - n % 2) for n, name in enumerate(test)],
    )
    cohort = read_vindr_cxr(tmp_path, tmp_path, tmp_path / "cohort", VindrOptions())
    assert cohort.labels == ("Aortic enlargement", "No finding")  # Edema: one of three only
    assert (cohort.targets_NC()[:40, 0] == 1).sum() == 20 and cohort.raters.images == 40
    assert sides(cohort)[2] == 10 and cohort.raters.statistic == "Fleiss' kappa"
    any_ = read_vindr_cxr(tmp_path, tmp_path, tmp_path / "cohort", VindrOptions(raters="any"))
    assert any_.labels == ("Aortic enlargement", "Edema", "No finding")


def test_padchest(tmp_path):
    names = [f"{n}_m1.png" for n in range(40)]
    draw(tmp_path, [f"{n % 3}/{name}" for n, name in enumerate(names)])
    lists = ["\"['pulmonary fibrosis', 'kyphosis']\"", "['normal']", "\"['kyphosis', ' normal ']\"", ""]
    rows = [
        (
            n,
            name,
            n % 3,
            20110101,
            f"s{n}",
            f"p{n // 2}",
            1950,
            "M",
            "PA",
            "Physician" if n % 2 else "RNN_model",
            lists[n // 2 % 4],
        )
        for n, name in enumerate(names)
    ]
    header = (
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,"
        "MethodLabel,Labels"
    )
    write(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", header, rows)
    cohort = read_padchest(tmp_path, tmp_path, tmp_path / "cohort", PadchestOptions())
    assert cohort.labels == ("kyphosis", "normal", "pulmonary fibrosis")
    assert np.isnan(cohort.targets_NC()[6]).all()
    some = read_padchest(tmp_path, tmp_path, tmp_path / "cohort", PadchestOptions(physicians_only=True))
    assert ("labelled by physicians", 20) in some.flow


def test_isic_2019_and_ham10000(tmp_path):
    names = [f"ISIC_{n:07}" for n in range(40)]
    draw(tmp_path / "ISIC_2019_Training_Input", [f"{name}.png" for name in names])
    classes = ["MEL", "NV", "UNK"]
    rows = [(name, float(n // 2 % 2 == 0), float(n // 2 % 2 == 1), 0.0) for n, name in enumerate(names)]
    write(tmp_path / "2019/ISIC_2019_Training_GroundTruth.csv", "image," + ",".join(classes), rows)
    header = "image,age_approx,anatom_site_general,lesion_id,sex"
    rows = [(name, 55, "torso", f"BCN_{n // 2}" if n < 30 else "", "female") for n, name in enumerate(names)]
    write(tmp_path / "2019/ISIC_2019_Training_Metadata.csv", header, rows)
    images = tmp_path / "ISIC_2019_Training_Input"
    cohort = read_isic(tmp_path / "2019", images, tmp_path / "cohort", ReleaseOptions())
    assert cohort.labels == ("MEL", "NV") and cohort.multiclass and cohort.modality == "dermoscopy"
    assert len(set(cohort.column("patient"))) == 15 + 10
    rows = [
        (f"HAM_{n // 2}", name, ["mel", "nv"][n // 2 % 2], "histo", 80, "male", "scalp")
        for n, name in enumerate(names)
    ]
    write(tmp_path / "ham/HAM10000_metadata", "lesion_id,image_id,dx,dx_type,age,sex,localization", rows)
    ham = read_isic(tmp_path / "ham", images, tmp_path / "cohort", ReleaseOptions())
    assert ham.labels == ("mel", "nv") and len(set(ham.column("patient"))) == 20


@pytest.mark.parametrize("several", [False, True])
def test_medmnist(tmp_path, several):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 20), ("val", 6), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
        labels = np.arange(count)[:, None] % 2
        arrays[f"{split}_labels"] = (np.hstack([labels, 1 - labels, labels]) if several else labels).astype(
            np.uint8
        )
    np.savez_compressed(tmp_path / "breastmnist.npz", **arrays)
    options = MedmnistOptions(classes=["a", "b", "c"] if several else ["malignant", "benign"])
    cohort = read_medmnist(tmp_path / "breastmnist.npz", tmp_path / "png", tmp_path / "cohort", options)
    assert sides(cohort) == [20, 6, 6] and cohort.multiclass == (not several)
    np.testing.assert_array_equal(cohort.files().decode(20), arrays["val_images"][0])
    np.testing.assert_array_equal(cohort.targets_NC()[:4, 0], [0, 1, 0, 1] if several else [1, 0, 1, 0])
    with pytest.raises(InputError, match="is there already"):
        read_medmnist(tmp_path / "breastmnist.npz", tmp_path / "png", tmp_path / "other", options)


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    labels = np.array([[{}]], dtype=object)
    np.savez(tmp_path / "x.npz", train_labels=labels, train_images=np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(InputError, match="not MedMNIST's arrays"):
        read_medmnist(tmp_path / "x.npz", tmp_path / "png", tmp_path / "cohort", MedmnistOptions())
