"""Images in one folder per class, as they are published."""

import io

import numpy as np
import pytest
from PIL import Image

from cohort.annotations import Annotations
from cohort.errors import InputError
from cohort.readers.folders import FoldersOptions, find_images, read_folders


def draw(root, names):
    for n, name in enumerate(names):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(n).integers(0, 256, (12, 12), dtype=np.uint8)
        if "mask" in name.lower():
            pixels = np.zeros((12, 12), np.uint8)
            pixels[2:6, 3:7] = 255 * ("normal" not in name)
        Image.fromarray(pixels).save(buffer, "PNG")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(buffer.getvalue())


BUSI = [
    f"Dataset_BUSI_with_GT/{c}/{c} ({n}){end}.png"
    for c in ("benign", "malignant", "normal")
    for n in range(1, 9)
    for end in ("", "_mask", *(["_mask_1"] if (c, n) == ("benign", 3) else []))
]
COVID = [
    f"{c}/{folder}/{c}-{n}.png"
    for c in ("COVID", "Normal")
    for folder in ("images", "masks")
    for n in range(9)
]
KERMANY = [
    f"chest_xray/{split}/{c}/person{n // 2 + 100 * at}_{n}.png"
    for at, split in enumerate(("train", "val", "test"))
    for c in ("NORMAL", "PNEUMONIA")
    for n in (range(6) if c == "NORMAL" else range(6, 12))
]
KATHER = [
    f"{root}/{c}/{c}-{n}.png"
    for root in ("NCT-CRC-HE-100K", "CRC-VAL-HE-7K")
    for c in ("ADI", "TUM")
    for n in range(6)
]


def test_masks_beside_images_become_regions_of_their_classes(tmp_path):
    draw(tmp_path / "busi", BUSI)
    options = FoldersOptions(patient_is_image=True, masks="labels")
    cohort = read_folders(tmp_path / "busi", tmp_path / "cohort", options)
    assert (
        cohort.labels == ("benign", "malignant", "normal")
        and cohort.multiclass
        and len(cohort.images()) == 24
    )
    regions = Annotations.open(cohort).regions
    assert len(regions) == 17 and {one.label for one in regions} == {"benign", "malignant"}
    assert sum(one.image.endswith("benign (3).png") for one in regions) == 2


def test_masks_that_nobody_asked_for_are_offered_and_those_of_an_organ_kept_as_such(tmp_path):
    draw(tmp_path / "covid", COVID)
    offered = read_folders(tmp_path / "covid", tmp_path / "cohort", FoldersOptions())
    assert any("18 masks lie among the images" in warning for warning in offered.warnings)
    organ = read_folders(tmp_path / "covid", tmp_path / "cohort", FoldersOptions(masks="lungs"))
    assert organ.labels == ("COVID", "Normal") and set(Annotations.open(organ).organs) == {"lungs"}


def test_folders_of_splits_and_patients_in_names(tmp_path):
    draw(tmp_path / "kermany", KERMANY)
    with pytest.raises(InputError, match=r"pass --patient-from '.*person"):
        read_folders(tmp_path / "kermany", tmp_path / "cohort", FoldersOptions())
    options = FoldersOptions(patient_from="(person[0-9]+)")
    cohort = read_folders(tmp_path / "kermany", tmp_path / "cohort", options)
    assert cohort.labels == ("NORMAL", "PNEUMONIA") and cohort.reader == "folders"
    assert [cohort.column("split").count(split) for split in cohort.splits] == [12, 12, 12]
    assert len(set(cohort.column("patient"))) == 18


def test_two_roots_are_splits_where_it_is_said():
    with pytest.raises(InputError, match=r"folders lie within folders .*--split-folder train=NCT-CRC"):
        find_images(KATHER, "kather", FoldersOptions())
    options = FoldersOptions(split_folder=["train=NCT-CRC-HE-100K", "test=CRC-VAL-HE-7K"])
    found = find_images(KATHER, "kather", options)
    assert set(found.classes) == {"ADI", "TUM"} and found.splits.count("test") == 12


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.txt"], "no image there"),
        (["1.png", "a/2.png"], r"'1\.png' lies in no folder of a class"),
        (["a/1.png", "a/2.png"], "all images are of 'a'"),
        (["train/a/1.png", "b/2.png"], "'b/2.png' lies in no split's folder"),
    ],
)
def test_folders_that_say_no_class_are_refused(files, message):
    with pytest.raises(InputError, match=message):
        find_images(files, "root", FoldersOptions())


def test_classes_may_be_called_yes_and_no(tmp_path):
    draw(tmp_path / "tumour", [f"{c}/{c}{n}.png" for c in ("yes", "no", "none") for n in range(8)])
    cohort = read_folders(tmp_path / "tumour", tmp_path / "cohort", FoldersOptions(patient_is_image=True))
    assert cohort.labels == ("no", "none", "yes")


@pytest.mark.parametrize(("level", "classes"), [(1, ["colon", "lung"]), (-1, ["colon_aca", "lung_n"])])
def test_of_folders_within_folders_the_level_that_is_named_is_the_class(level, classes):
    files = ["LC25000/colon/colon_aca/1.jpeg", "LC25000/lung/lung_n/2.jpeg"]
    with pytest.raises(InputError, match=r"--class-level 1 for 'colon'"):
        find_images(files, "root", FoldersOptions())
    assert find_images(files, "root", FoldersOptions(class_level=level)).classes == classes


def test_classes_may_stand_in_names():
    """As in Shenzhen's radiographs and in MURA."""
    files = ["CHNCXR_0001_0.png", "CHNCXR_0327_1.png"]
    assert find_images(files, "root", FoldersOptions(class_from="_([01])[.]png")).classes == ["0", "1"]
