"""The contact sheet: so many images, with room for their labels."""

import numpy as np
import pytest
from PIL import Image

from cohort.contact_sheet import contact_sheet
from cohort.errors import InputError
from cohort.image_files import ImageFiles, inspect_images
from cohort.labels import LabelPolicy
from cohort.writing import write_cohort


def test_the_sheet_shows_images_spread_over_the_cohort(tmp_path):
    (tmp_path / "images").mkdir()
    names = [f"{n}.png" for n in range(20)]
    for n, name in enumerate(names):
        Image.fromarray(np.full((10, 20), 10 * n, dtype=np.uint8)).save(tmp_path / "images" / name)
    cohort = write_cohort(
        tmp_path / "cohort",
        {
            "image": names,
            "file": names,
            "digest": inspect_images(ImageFiles(tmp_path / "images", names)).digests,
            "present": [True] * 20,
            "patient": names,
            "study": names,
            "view": [""] * 20,
            "split": ["train", "val", "test", "train"] * 5,
        },
        np.ones((20, 5)),
        labels=["Edema", "Fracture", "Pneumonia", "Atelectasis", "A very long name that does not fit"],
        source="test",
        policy=LabelPolicy(),
        images_root=tmp_path / "images",
    )
    with pytest.raises(InputError, match=r"sheet\.tiff: a contact sheet must be a \.png or \.jpg file"):
        contact_sheet(cohort, tmp_path / "sheet.tiff")
    path = contact_sheet(cohort, tmp_path / "docs" / "sheet.png", columns=4, rows=2, size=40)
    sheet = np.asarray(Image.open(path).convert("L"))
    assert sheet.shape == (2 * (40 + 36 + 6) + 6, 4 * (40 + 6) + 6)
    # The first image is black, the last the brightest; above and below stand the bands of the padded square.
    assert sheet[6 + 20, 6 + 20] == 0 and sheet[82 + 6 + 20, 3 * 46 + 6 + 20] == 190
    assert sheet[82 + 6 + 5, 3 * 46 + 6 + 20] == 255
    # Something is written under every image.
    for row in range(2):
        for column in range(4):
            label = sheet[6 + row * 82 + 42 : 6 + row * 82 + 76, 6 + column * 46 : 46 + column * 46]
            assert label.min() < 128


def test_two_labels_in_letters_that_pillows_font_lacks_are_told_apart(tmp_path):
    names = ["0.png", "1.png"]
    (tmp_path / "images").mkdir()
    for name in names:
        Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(tmp_path / "images" / name)
    cohort = write_cohort(
        tmp_path / "cohort",
        {
            "image": names,
            "file": names,
            "digest": inspect_images(ImageFiles(tmp_path / "images", names)).digests,
            "present": [True] * 2,
            "patient": names,
            "study": names,
            "view": [""] * 2,
            "split": ["train", "test"],
        },
        np.eye(2),
        labels=["肺炎", "骨折"],
        source="test",
        policy=LabelPolicy(),
        images_root=tmp_path / "images",
    )
    path = contact_sheet(cohort, tmp_path / "sheet.png", columns=2, rows=1, size=120)
    sheet = np.asarray(Image.open(path).convert("L"))
    first, second = (sheet[126:, 6 + 126 * k : 126 + 126 * k] for k in range(2))
    assert first.min() < 128 and second.min() < 128 and (first != second).any()
