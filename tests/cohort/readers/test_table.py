"""Any table: columns a label, one label per row, views, splits, and the bad input it must name."""

import io
import re
import zipfile
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from cohort.errors import InputError
from cohort.intensity import Intensity, find_intensity
from cohort.labels import CHEXPERT_14, NIH_14, NO_FINDING
from cohort.manifest import Cohort
from cohort.readers.name_lists import comma_separated
from cohort.readers.table import TableOptions, read_table
from cohort.summary import describe

PATIENTS = 30


def png(seed, colour=False):
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (12, 12, 3) if colour else (12, 12), dtype=np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path):
    """Two images of each of thirty patients, with their table."""
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for n in range(2 * PATIENTS):
        (folder / f"img_{n:02}.png").write_bytes(png(n))
        rows.append(
            {
                "file": f"img_{n:02}.png",
                "pid": f"{n // 2:03}",
                "exam": f"e{n}",
                "view": "PA" if n % 3 else "AP",
                "sex": "FM"[n // 2 % 2],
                "age": 30 + n,
                "Edema": n % 4 == 0,
                "Fracture": ["", "-1", "0", "1", "0"][n % 5],
                NO_FINDING: int(n % 4 != 0 and n % 5 != 3),
                "set": ["train", "train", "train", "valid", "test"][n // 2 % 5],
                "code": ["edema", "edema|fracture", "fracture", ""][n % 4],
            }
        )
    rows = pd.DataFrame(rows).astype({"Edema": int})
    return tmp_path, rows


def read(source, table=None, images=None, **arguments):
    folder, rows = source
    if table is None:
        table = folder / "table.csv"
        rows.to_csv(table, index=False)
    arguments = {"image_column": "file", "patient_column": "pid"} | arguments
    if "label_column" not in arguments:
        arguments = {"labels": ["Edema", "Fracture"]} | arguments
    return read_table(table, images or folder / "images", folder / "cohort", TableOptions(**arguments))


def test_a_table_with_a_column_a_label(source):
    cohort = read(source, study_column="exam", view_column="view", split_column="set", keep=["sex", "age"])
    rows = source[1]
    assert cohort.labels == ("Edema", "Fracture")
    assert cohort.images() == rows["file"].tolist()
    assert cohort.column("patient")[:3] == ["000", "000", "001"]
    assert cohort.column("study")[:2] == ["e0", "e1"]
    assert cohort.column("keep.age") == rows["age"].tolist()
    assert cohort.column("keep.sex") == rows["sex"].tolist()
    assert Counter(cohort.column("split")) == {"train": 36, "val": 12, "test": 12}
    fracture = pd.to_numeric(rows["Fracture"]).replace(-1, np.nan)
    np.testing.assert_array_equal(cohort.targets_NC(), np.stack([rows["Edema"], fracture], axis=1))
    assert cohort.uncertain == {"Edema": 0, "Fracture": 12}
    assert cohort.flow == (("rows read", 60), ("image file there", 60))
    assert cohort.channels == 1


def test_the_cohort_written_is_the_cohort_returned(source):
    cohort = read(source)
    assert Cohort.open(source[0] / "cohort").content_hash == cohort.content_hash


def test_parquet_and_a_zip_archive_give_the_same_targets_and_pixels(source):
    folder, rows = source
    first = read(source)
    rows.assign(Fracture=pd.to_numeric(rows["Fracture"])).to_parquet(folder / "table.parquet")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for file in (folder / "images").iterdir():
            archive.write(file, f"nested/{file.name}")
    second = read(source, table=folder / "table.parquet", images=folder / "images.zip")
    np.testing.assert_array_equal(first.targets_NC(), second.targets_NC())
    assert first.column("digest") == second.column("digest")
    assert second.files().read(0) == first.files().read(0)


def test_file_names_may_lack_their_ending(source):
    source[1]["file"] = source[1]["file"].str.removesuffix(".png")
    cohort = read(source)
    assert cohort.images()[0] == "img_00" and cohort.column("file")[0] == "img_00.png"


def test_the_default_split_is_by_patient_and_repeatable(source):
    first, second = read(source), read(source)
    assert first.column("split") == second.column("split")
    sides = pd.DataFrame({"patient": first.column("patient"), "split": first.column("split")})
    assert (sides.groupby("patient")["split"].nunique() == 1).all()
    assert read(source, seed=1).column("split") != first.column("split")


def test_the_default_split_has_the_shares_that_are_asked_for(source):
    count = Counter(read(source, fractions=[0.4, 0.3, 0.3]).column("split"))
    assert abs(count["train"] - 24) <= 2 and abs(count["val"] - 18) <= 2


def test_views_are_filtered_and_counted(source):
    cohort = read(source, view_column="view", views=["ap"])
    assert set(cohort.column("view")) == {"AP"}
    assert cohort.flow[:2] == (("rows read", 60), ("view among ap (left out: PA 40)", 20))


def test_one_label_a_row_is_merged_by_image(source):
    folder, _ = source
    with (folder / "long.csv").open("w") as file:
        file.write("file,pid,finding\n")
        for n in range(60):
            file.write(f"img_{n:02},{n // 2},normal\n" if n % 3 else f"img_{n:02},{n // 2},Edema\n")
            if n % 6 == 0:
                file.write(f"img_{n:02},{n // 2},Fracture\n")
    cohort = read(source, table=folder / "long.csv", label_column="finding")
    assert cohort.labels == ("Edema", "Fracture", "normal")
    assert cohort.flow[:2] == (("rows read", 70), ("images", 60))
    assert cohort.targets_NC()[:4].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]


def test_one_label_in_every_row_makes_multiclass_labels_in_either_form(source):
    source[1]["code"] = ["benign", "malignant", "normal"] * 20
    cohort = read(source, label_column="code")
    assert cohort.multiclass and "one per image (multiclass)" in describe(cohort)
    for label in ("benign", "malignant", "normal"):
        source[1][label] = (source[1]["code"] == label).astype(int)
    assert read(source, labels=["benign", "malignant", "normal"]).multiclass
    assert not read(source, labels=["benign", "malignant"]).multiclass
    asked = read(source, label_column="code", multiclass=False)
    assert not asked.multiclass and not any("one label" in w for w in asked.warnings)
    assert "independent findings" in describe(asked)


def test_grades_keep_their_order(source):
    source[1]["code"] = ["10", "2", "0"] * 20
    cohort = read(source, label_column="code", ordinal=True)
    assert cohort.multiclass and cohort.ordinal and cohort.labels == ("0", "2", "10")
    assert cohort.targets_NC()[:2].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert "from 0 to 10" in describe(cohort) and Cohort.open(cohort.folder).ordinal
    source[1]["code"] = ["severe", "mild", "clear"] * 20
    with pytest.raises(
        InputError, match=r"^--ordinal: the labels clear, mild, severe are not all numbers; name"
    ):
        read(source, label_column="code", ordinal=True)
    named = read(source, label_column="code", labels=["clear", "mild", "severe"], ordinal=True)
    assert named.labels == ("clear", "mild", "severe")
    source[1]["code"] = ["0|2", "2", "0"] * 20
    with pytest.raises(InputError, match="exactly one a row"):
        read(source, label_column="code", ordinal=True)


def test_a_row_that_nobody_labelled_leaves_labels_multiclass(source):
    source[1]["code"] = ["benign", "malignant", None] * 20
    assert read(source, label_column="code").multiclass
    assert not read(source, label_column="code", blank="negative").multiclass


def test_findings_that_do_not_meet_in_a_small_table_stay_independent_unless_asked(source):
    """In 9 rows an edema and a fracture that are rare would hardly meet."""
    folder, rows = source
    rows = rows[:9].assign(code=[NO_FINDING] * 7 + ["Edema", "Fracture"], set="test")
    small = folder, rows
    cohort = read(small, label_column="code", split_column="set")
    assert not cohort.multiclass
    assert any(w.startswith("each of the 9 rows has one label") for w in cohort.warnings)
    assert read(small, label_column="code", split_column="set", multiclass=True).multiclass


def test_labels_that_are_to_be_multiclass_name_the_image_that_has_two(source):
    with pytest.raises(InputError, match=r"but image 'img_01\.png' has edema, fracture"):
        read(source, label_column="code", multiclass=True)
    assert not read(source, label_column="code").multiclass


def test_other_words_for_labels_reach_the_manifest_and_are_shown(source):
    cohort = read(
        source,
        label_names={"Edema": "pulmonary oedema"},
        label_prompts={"Fracture": ["a broken rib", "a gap"]},
    )
    assert cohort.label_names == {"Edema": "pulmonary oedema"}
    assert cohort.label_prompts == {"Fracture": ("a broken rib", "a gap")}
    lines = [" ".join(line.split()) for line in describe(cohort).splitlines()]
    assert any(line.startswith("Edema (pulmonary oedema) ") for line in lines)
    assert "Fracture a broken rib; a gap" in lines


def test_other_words_for_a_label_that_is_not_there_are_refused_before_any_image_is_read(source, monkeypatch):
    monkeypatch.setattr("cohort.readers.assemble.inspect_images", None)
    with pytest.raises(InputError, match=r"no label 'Edma' to say in other words; did you mean 'Edema'\?"):
        read(source, label_names={"Edma": "oedema"})


def test_several_labels_in_a_cell_and_a_blank_one(source):
    cohort = read(source, label_column="code")
    assert cohort.labels == ("edema", "fracture")
    np.testing.assert_array_equal(cohort.targets_NC()[:4], [[1, 0], [1, 1], [0, 1], [np.nan, np.nan]])
    negative = read(source, label_column="code", blank="negative")
    assert negative.targets_NC()[3].tolist() == [0, 0]


def test_a_separator_of_ones_own(source):
    source[1]["code"] = source[1]["code"].str.replace("|", "; ")
    cohort = read(source, label_column="code", label_separator=";")
    assert cohort.labels == ("edema", "fracture") and cohort.targets_NC()[1].tolist() == [1, 1]


def test_a_separator_that_was_missed_is_warned_of(source):
    source[1]["code"] = source[1]["code"].str.replace("|", ",")
    cohort = read(source, label_column="code")
    assert cohort.labels == ("edema", "edema,fracture", "fracture")
    (warning,) = [w for w in cohort.warnings if "several in one" in w]
    assert warning.startswith(
        "1 of 3 labels look like several in one ('edema,fracture'), for cells are cut at '|'"
    )
    assert warning.endswith("pass --label-separator ',' if they are")


def test_a_column_of_yes_and_no_names_no_labels(source):
    message = r"column 'Edema' holds 0, 1, which say yes or no .*pass --labels 'Edema' instead"
    with pytest.raises(InputError, match=message):
        read(source, label_column="Edema")


def test_known_vocabularies_keep_their_own_order(source):
    source[1]["code"] = source[1]["code"].map({"edema": "Hernia", "": NO_FINDING}).fillna("Effusion|Mass")
    assert read(source, label_column="code").labels == ("Effusion", "Mass", "Hernia", NO_FINDING)


def test_uncertain_and_no_finding_rules_reach_the_targets(source):
    labels = ["Edema", "Fracture", NO_FINDING]
    cohort = read(
        source, labels=labels, uncertain={"Fracture": "ones"}, no_finding="complement", blank="negative"
    )
    raw = pd.to_numeric(source[1]["Fracture"])
    positive = raw.isin([1, -1])
    np.testing.assert_array_equal(cohort.targets_NC()[:, 1], positive.astype(float))
    expected = ~(positive | (source[1]["Edema"] == 1))
    np.testing.assert_array_equal(cohort.targets_NC()[:, 2], expected.astype(float))
    assert cohort.policy.no_finding == "complement"


def test_no_finding_can_be_derived_where_the_table_has_no_such_column(source):
    del source[1][NO_FINDING]
    labels = ["Edema", "Fracture", NO_FINDING]
    with pytest.raises(InputError, match="no column 'No Finding', so it cannot be taken as given"):
        read(source, labels=labels)
    assert read(source, labels=labels, no_finding="complement").targets_NC()[4, 2] == 0


def test_contradictions_are_counted_and_listed(source):
    source[1].loc[[0, 4], NO_FINDING] = 1
    cohort = read(source, labels=["Edema", "Fracture", NO_FINDING])
    assert cohort.contradictions == ("img_00.png", "img_04.png")
    assert any(w.startswith("2 images state No Finding together with a finding") for w in cohort.warnings)


def test_blanks_are_negative_by_default_only_in_a_chexpert_table(source):
    assert read(source).policy.blank == "missing"
    rng = np.random.default_rng(0)
    for label in CHEXPERT_14:
        source[1][label] = np.where(rng.random(60) < 0.3, 1.0, np.nan)
    cohort = read(source, labels=CHEXPERT_14)
    assert cohort.policy.blank == "negative" and not np.isnan(cohort.targets_NC()).any()


def test_blanks_stay_missing_where_one_of_the_fourteen_columns_is_only_derived(source):
    del source[1][NO_FINDING]
    rng = np.random.default_rng(0)
    for label in CHEXPERT_14[:-1]:
        source[1][label] = np.where(rng.random(60) < 0.3, 1.0, 0.0)
    source[1].loc[:29, CHEXPERT_14[:-1]] = 0
    source[1].loc[0, "Edema"] = np.nan
    cohort = read(source, labels=CHEXPERT_14, no_finding="complement")
    assert cohort.policy.blank == "missing"
    assert np.isnan(cohort.targets_NC()[0, CHEXPERT_14.index("Edema")])


def test_without_a_patient_column_every_image_is_its_own_patient_and_that_is_said(source):
    cohort = read(source, patient_column=None)
    assert cohort.column("patient") == cohort.images()
    assert "no patient column: every image counts as its own patient" in cohort.warnings


def test_missing_files_are_named_counted_and_kept_as_rows(source):
    for n in (1, 2, 3, 4):
        (source[0] / "images" / f"img_{n:02}.png").unlink()
    cohort = read(source)
    assert cohort.table.num_rows == 60 and cohort.present.num_rows == 56
    assert cohort.flow[-1] == ("image file there", 56)
    assert any(
        w.startswith("4 of 60 image files are missing (img_01.png, img_02.png, img_03.png, ...); check")
        for w in cohort.warnings
    )


def test_the_folder_of_an_image_is_not_ignored(source):
    """Patient 000's images are said to lie in another folder, where there are none."""
    source[1]["file"] = ["b/", "b/", *["images/"] * 58] + source[1]["file"]
    cohort = read(source)
    assert cohort.column("file")[0] == "img_02.png" and cohort.present.num_rows == 58
    assert cohort.warnings[-1].startswith("2 of 60 image files are missing (b/img_00.png, b/img_01.png)")
    with pytest.raises(
        InputError, match=r"none of the 60 images is there .* lead through another folder than"
    ):
        source[1]["file"] = "b/" + source[1]["file"].str.removeprefix("images/").str.removeprefix("b/")
        read(source)


def test_what_is_missing_stands_in_the_last_line(source):
    """Below all that is said of the labels."""
    source[1]["Rare"] = (source[1].index < 2).astype(int)
    source[1].loc[30, "file"] = "img_3O.png"
    cohort = read(source, labels=["Edema", "Rare"], patient_column=None)
    assert len(cohort.warnings) > 2
    last = describe(cohort).splitlines()[-1]
    assert last.startswith("  1 of 60 image files are missing (img_3O.png); check the images' folder")


def test_unreadable_images_are_refused_by_name_or_skipped(source):
    folder = source[0] / "images"
    (folder / "img_05.png").write_bytes((folder / "img_05.png").read_bytes()[:60])
    (folder / "img_09.png").write_bytes(b"text")
    message = r"img_05\.png: unreadable image .*; 2 such files: img_05\.png, img_09\.png"
    with pytest.raises(InputError, match=message + "; mend or remove them, or pass --skip-unreadable"):
        read(source)
    cohort = read(source, skip_unreadable=True)
    assert cohort.present.num_rows == 58 and cohort.flow[-1] == ("image readable", 58)
    assert any(w.startswith("2 unreadable image files were skipped: img_05.png") for w in cohort.warnings)


def copy_image(source, original, copy):
    folder = source[0] / "images"
    (folder / f"img_{copy:02}.png").write_bytes((folder / f"img_{original:02}.png").read_bytes())


def test_an_image_in_two_splits_under_two_names_is_refused_or_warned_of(source):
    copy_image(source, 0, 8)  # of patient 000 in train and of patient 004 in test
    message = (
        r"images: 1 pair of images is the same or nearly so \(img_00\.png \(train\) = img_08\.png \(test\)\) "
        r"in several splits, .*pass --allow-duplicates"
    )
    with pytest.raises(InputError, match=message):
        read(source, split_column="set")
    assert not (source[0] / "cohort").exists()
    cohort = read(source, split_column="set", allow_duplicates=True)
    assert any("in several splits: scores there flatter the model" in w for w in cohort.warnings)


@pytest.mark.parametrize(
    "altered",
    [
        lambda image: (image, "PNG", {"pnginfo": note()}),
        lambda image: (image.convert("RGB"), "PNG", {}),
        lambda image: (image, "JPEG", {"quality": 60}),
        lambda image: (image.point(lambda v: v * 0.8 + 30), "PNG", {}),
        lambda image: (image.resize((200, 200), Image.Resampling.BICUBIC), "PNG", {}),
    ],
    ids=["a text chunk more", "in colour", "compressed anew", "brighter", "larger"],
)
def test_an_image_that_was_only_exported_anew_is_the_same(source, altered):
    """In given splits it is refused, in one that is drawn its patients stay together."""
    folder = source[0] / "images"
    for n in range(60):
        smooth_image(n).save(folder / f"img_{n:02}.png")
    image, form, options = altered(smooth_image(0))
    image.save(folder / "img_08.png", form, **options)
    with pytest.raises(InputError, match=r"img_00\.png \(train\) [=~] img_08\.png \(test\)"):
        read(source, split_column="set")
    for seed in range(5):
        cohort = read(source, seed=seed)
        side = dict(zip(cohort.column("patient"), cohort.column("split"), strict=True))
        assert side["000"] == side["004"]
        assert any("whom the split keeps together" in warning for warning in cohort.warnings)
    assert len(cohort.duplicates) == 1 and cohort.duplicates[0][:2] == ("img_00.png", "img_08.png")


def smooth_image(seed):
    """96 x 96 pixels, as different from another's as noise and as smooth as a radiograph."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def note():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "exported again")
    return text


def test_a_split_may_be_drawn_through_images_that_are_only_alike(source):
    for n in range(60):
        smooth_image(0).point(lambda v, n=n: v * (1 - n / 200)).save(source[0] / "images" / f"img_{n:02}.png")
    with pytest.raises(
        InputError, match=r"keeps together: a split .* at least 3 patients.*--allow-duplicates"
    ):
        read(source)
    assert set(read(source, allow_duplicates=True).splits) == {"train", "val", "test"}


def test_blank_images_are_no_duplicates_of_each_other(source):
    for n in (0, 8):
        Image.new("L", (12, 12), n).save(source[0] / "images" / f"img_{n:02}.png")
    Image.new("L", (12, 12), 8).save(source[0] / "images" / "img_02.png")
    cohort = read(source, split_column="set")
    assert cohort.duplicates == () and any(w.startswith("3 images are blank") for w in cohort.warnings)


def test_16_bit_percentiles_are_those_of_the_split_that_is_drawn_at_last(source):
    write_16_bit(*source)
    images = source[0] / "images"
    (images / "img_08.png").write_bytes((images / "img_00.png").read_bytes())
    for seed in range(4):
        cohort = read(source, intensity="percentiles:1,99", seed=seed)
        counts_V = np.zeros(2**16, dtype=np.int64)
        for i in cohort.indices("train"):
            stored = Image.open(images / cohort.images()[i])
            counts_V += np.bincount(np.asarray(stored).reshape(-1), minlength=2**16)
        assert cohort.intensity == find_intensity("percentiles:1,99", counts_V)


def test_identical_images_within_a_split_are_shown_but_not_refused(source):
    copy_image(source, 0, 1)
    copy_image(source, 0, 2)
    cohort = read(source, split_column="set")
    assert not any("several splits" in w for w in cohort.warnings)
    assert "Images that are the same or nearly so: 3 of 60, in pairs" in describe(cohort)


def test_a_missing_file_is_a_copy_of_no_other(source):
    for n in (0, 8):
        (source[0] / "images" / f"img_{n:02}.png").unlink()
    assert read(source, split_column="set").present.num_rows == 58


def test_one_colour_image_makes_a_colour_cohort(source):
    (source[0] / "images" / "img_07.png").write_bytes(png(7, colour=True))
    assert read(source).channels == 3


def test_a_label_too_rare_for_three_sides_is_warned_of(source):
    source[1]["Rare"] = (source[1].index < 4).astype(int)
    warnings = read(source, labels=["Edema", "Rare"]).warnings
    assert "Rare: 2 positive patients, too few for three sides" in warnings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_column": "File"}, r"no column 'File'; did you mean 'file'\?"),
        ({"keep": ["gender"]}, "no column 'gender'"),
        ({"labels": ["Edema", "Fractrue"]}, r"no label column 'Fractrue'; did you mean 'Fracture'\?"),
        ({"labels": ["Edema", "Edema"]}, "label 'Edema' is named 2 times"),
        ({"labels": []}, "no label is named"),
        ({"labels": ["sex"]}, r"table\.csv, row 2: label 'sex' must be 1, 0, -1 .* got 'F'"),
        ({"labels": ["Edema"], "label_column": "code"}, "names no label 'Edema'; did you mean 'edema'"),
        ({"labels": None}, r"in columns of their own \(--labels\) or in one \(--label-column\)"),
        ({"label_separator": ";"}, "label separator ';' must be a text between the labels of a label column"),
        ({"label_column": "code", "label_separator": ""}, "label separator '' must be a text between"),
        ({"views": ["PA"]}, "views PA are asked for, but no view column is named"),
        ({"view_column": "view", "views": ["LL"]}, "no row has a view among LL; 'view' holds: PA 40, AP 20"),
        ({"uncertain": {"Oedema": "ones"}}, "uncertain rule for unknown label 'Oedema'"),
        ({"blank": "zero"}, "blank rule must be one of"),
        ({"fractions": [0.7, 0.3]}, "fractions must be three positive numbers that sum to 1"),
        ({"fractions": [0.6, 0.2, 0.2], "split_column": "set"}, "but column 'set' gives one; name one"),
        ({"split_column": "sex"}, r"table\.csv, column 'sex': image 1 has the split 'F'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(source, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        read(source, **arguments)
    assert "\n" not in str(error.value)
    assert not (source[0] / "cohort").exists()


def test_a_duplicate_image_is_refused_with_both_rows(source):
    source[1].loc[9, "file"] = "img_02.png"
    with pytest.raises(InputError, match=r"row 11: image 'img_02\.png' stands in an earlier row .*row 4\)"):
        read(source)


def test_rows_of_one_image_must_agree_about_the_patient(source):
    source[1].loc[9, "file"] = "img_02.png"
    with pytest.raises(InputError, match=r"row 11: image 'img_02\.png' has '004' in column 'pid', but '001'"):
        read(source, label_column="code")


def test_a_blank_patient_is_refused(source):
    source[1].loc[3, "pid"] = None
    with pytest.raises(InputError, match=r"row 5: column 'pid' is blank"):
        read(source)


def test_a_label_without_a_positive_is_refused_with_the_remedy(source):
    source[1]["Edema"] = 0
    with pytest.raises(InputError, match="label 'Edema' has no positive image; leave it out of the labels"):
        read(source)


def test_a_patient_on_two_sides_of_a_given_split_is_refused(source):
    source[1].loc[0, "set"] = "test"
    with pytest.raises(InputError, match="patient '000' lies in 'test' and in 'train'"):
        read(source, split_column="set")


def test_a_table_of_test_images_only_becomes_a_cohort_without_the_other_splits(source):
    source[1]["set"] = "test"
    cohort = read(source, split_column="set")
    assert cohort.splits == ("test",) and len(cohort.indices("test")) == 2 * PATIENTS
    with pytest.raises(InputError, match="this cohort has no split 'train', only test"):
        cohort.indices("train")


def test_modality_and_licence_reach_the_manifest(source):
    cohort = read(source)
    assert cohort.reader == "table" and not cohort.drawn
    assert cohort.modality == "chest radiograph" and cohort.licence == ""
    cohort = read(source, modality="ct", licence="CC BY 4.0")
    assert cohort.modality == "ct" and cohort.licence == "CC BY 4.0"


def test_a_licence_of_two_lines_is_refused_before_any_image_is_read(source, monkeypatch):
    monkeypatch.setattr("cohort.readers.assemble.inspect_images", None)
    with pytest.raises(InputError, match="licence must be one line"):
        read(source, licence="CC\nBY")


def test_a_folder_with_none_of_the_images_is_refused(source):
    (source[0] / "empty").mkdir()
    message = r"empty: none of the 60 images is there \(the first looked for is 'img_00\.png'\)"
    with pytest.raises(InputError, match=message):
        read(source, images=source[0] / "empty")


def write_16_bit(folder, rows, brightest=5000):
    """Every image anew in 16 bits: 500 to 1499, and in one of the test split `brightest`."""
    values = np.linspace(500, 1499, 144).astype(np.uint16)
    for n, name in enumerate(rows["file"]):
        image = np.random.default_rng(n).permutation(values).reshape(12, 12)
        image[0, 0], image[-1, -1] = 500, 1499
        if n == 8:
            image[0, 0] = brightest
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        (folder / "images" / name).write_bytes(buffer.getvalue())
    assert rows.loc[8, "set"] == "test"


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [("full", 0, 4095), ("window:600,1400", 600, 1400), ("percentiles:0,100", 500, 1499)],
)
def test_16_bit_images_follow_one_rule_found_on_the_training_images(source, rule, low, high):
    write_16_bit(*source)
    cohort = read(source, split_column="set", intensity=rule)
    assert Cohort.open(cohort.folder).intensity == cohort.intensity == Intensity(low, high, rule)
    assert cohort.warnings[0] == "no positive in val: Fracture" and cohort.channels == 1
    assert not any("16-bit" in warning for warning in cohort.warnings)
    expected = cohort.intensity.to_8_bit(np.array([[500, 1499, 5000]], dtype=np.uint16))[0]
    image, marked = cohort.files().decode(0), cohort.files().decode(8)
    assert [image[0, 0], image[-1, -1], marked[0, 0]] == expected.tolist()
    assert f"16-bit gray  {low} to {high} become black to white ({rule})" in describe(cohort)


def test_the_rule_for_16_bit_images_is_part_of_the_cohorts_content(source):
    write_16_bit(*source)
    hashes = [
        read(source, split_column="set", intensity=rule).content_hash
        for rule in ("full", "window:0,4095", "window:0,8191")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_16_bit_images_among_others_are_counted_and_doubts_are_said(source):
    write_16_bit(*source)
    (source[0] / "images" / "img_00.png").write_bytes(png(0))
    assert "59 of 60 images have 16-bit gray, the others have 8 bits" in read(source).warnings
    source[1]["set"] = "test"  # so that the brightest pixel counts
    write_16_bit(*source, brightest=65535)
    (doubt,) = [w for w in read(source, split_column="set").warnings if "percentiles:0.5,99.5" in w]
    assert doubt.startswith("99 % of the 16-bit pixels are at most 14")


def test_a_cohort_of_8_bits_knows_no_intensity(source):
    cohort = read(source, intensity="window:0,4095")
    assert cohort.intensity is None and "16-bit gray" not in describe(cohort).split("Warnings")[0]
    assert cohort.warnings[0] == "intensity window:0,4095 changes nothing: no image has 16-bit gray"


def test_a_wrong_rule_is_refused_before_any_image_is_read(source, monkeypatch):
    monkeypatch.setattr("cohort.readers.assemble.inspect_images", None)
    with pytest.raises(InputError, match=r"intensity must be full, window:LOW,HIGH, percentiles:LOW,HIGH"):
        read(source, intensity="auto")


def test_images_turned_by_their_exif_orientation_are_counted(source):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name in ("img_03.png", "img_07.png"):
        Image.open(source[0] / "images" / name).save(source[0] / "images" / name, exif=exif)
    assert "2 images turned upright by their EXIF orientation" in read(source).warnings


def test_names_that_may_be_one_are_said(source):
    """A patient under two spellings may lie in two splits."""
    rows = source[1]
    rows["pid"] = "p" + rows["pid"]
    rows.loc[0, "pid"], rows.loc[[4, 5], "pid"], rows.loc[[6, 7], "pid"] = "P000", "12", "12.0"
    rows.loc[3, "code"] = "Fracture"
    warnings = read(source, label_column="code").warnings
    assert (
        "1 labels differ from another in case, hyphens, width or a final .0 only (Fracture and fracture): "
        "taken for different ones"
    ) in warnings
    assert (
        "2 patients differ from another in case, hyphens, width or a final .0 only (P000 and p000, 12 and "
        "12.0): taken for different ones"
    ) in warnings


def test_blank_images_are_counted(source):
    for n in (3, 4):
        Image.new("L", (12 + n, 12)).save(source[0] / "images" / f"img_{n:02}.png")
    assert "2 images are blank, every pixel the same (img_03.png, img_04.png)" in read(source).warnings


def test_images_of_any_format_with_any_ending_or_none_are_found(source):
    images = source[0] / "images"
    for n in range(4):
        Image.open(images / f"img_{n:02}.png").save(images / f"img_{n:02}.tif")
        (images / f"img_{n:02}.png").unlink()
    (images / "img_04.png").rename(images / "img_04")
    (images / "img_05.png").rename(images / "img_05.txt")
    source[1]["file"] = source[1]["file"].str.removesuffix(".png")
    cohort = read(source)
    assert cohort.warnings[-1].startswith("1 of 60 image files are missing (img_05); check")
    assert cohort.present.num_rows == 59


def test_a_foreign_output_folder_is_refused_before_anything_is_read(source):
    (source[0] / "cohort").mkdir()
    (source[0] / "cohort" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'mine\.txt'"):
        read(source, table="absent.csv")


def test_the_real_nih_cohort_comes_out_as_its_readme_says(real_data, tmp_path):
    folder = real_data / "nih_cxr64"
    cohort = read_table(
        folder / "labels.csv",
        folder / "images",
        tmp_path / "nih",
        TableOptions(
            image_column="image_id",
            patient_column="patient_id",
            view_column="view",
            labels=[*NIH_14, NO_FINDING],
            split_column="split",
            keep=["sex", "age"],
        ),
    )
    positives = dict(zip(cohort.labels, cohort.targets_NC().sum(axis=0).astype(int).tolist(), strict=True))
    assert positives == dict(
        zip(NIH_14, [95, 83, 170, 162, 35, 39, 11, 40, 42, 31, 37, 32, 29, 9], strict=True)
    ) | {NO_FINDING: 499}
    assert [len(cohort.indices(split)) for split in ("train", "val", "test")] == [595, 211, 194]
    assert len(set(cohort.patients_N())) == 264 and cohort.channels == 1
    assert cohort.warnings == ("no positive in test: Hernia",) and not cohort.multiclass
    with pytest.raises(InputError, match="lies in"):
        read_table(
            folder / "labels.csv",
            folder / "images",
            tmp_path / "kcr",
            TableOptions(
                image_column="image_id",
                patient_column="patient_id",
                labels=NIH_14,
                split_column="kcr_split",
            ),
        )


def test_the_nih_label_cells_say_the_same_as_its_columns(real_data, tmp_path):
    folder = real_data / "nih_cxr64"
    arguments = {"image_column": "image_id", "patient_column": "patient_id", "split_column": "split"}
    source = folder / "labels.csv", folder / "images"
    wide = read_table(*source, tmp_path / "a", TableOptions(labels=[*NIH_14, NO_FINDING], **arguments))
    long = read_table(*source, tmp_path / "b", TableOptions(label_column="finding_labels", **arguments))
    assert wide.labels == long.labels
    np.testing.assert_array_equal(wide.targets_NC(), long.targets_NC())


def test_the_real_paediatric_archive_is_read_one_label_an_image(real_data, tmp_path):
    folder = real_data / "kermany_ped_cxr256"
    cohort = read_table(
        folder / "labels.csv",
        folder / "images.zip",
        tmp_path / "k",
        TableOptions(image_column="image", patient_column="patient", label_column="label"),
    )
    assert cohort.labels == ("bacterial_pneumonia", "normal", "viral_pneumonia")
    assert cohort.targets_NC().sum(axis=0).tolist() == [320, 320, 320]
    assert cohort.present.num_rows == 960
    lines = [" ".join(line.split()) for line in describe(cohort).splitlines()]
    assert cohort.multiclass
    # Three radiographs of the release have a copy, each of the same patient and with the same label.
    assert "Images that are the same or nearly so: 6 of 960, in pairs" in lines
    assert [alike for *_, alike in cohort.duplicates] == [None] * 3
    assert not any(line.startswith(("across", "with different labels")) for line in lines)


# One name written twice, and cells that are blank by a marker


@pytest.mark.parametrize("other", ["Mu\u0308ller", "Mül\u200bler", "Müller  "])
def test_a_patient_in_two_spellings_that_look_the_same_is_one(source, other):
    rows = source[1]
    rows.loc[[0, 1], "pid"], rows.loc[[8, 9], "pid"] = "Müller", other
    if other != "Müller  ":  # which every cell is stripped of
        with pytest.raises(InputError, match="patient 'Müller' lies in 'train' and in 'test'"):
            read(source, split_column="set")
        assert any(
            "1 patients are written as others in all that can be seen" in w for w in read(source).warnings
        )
    cohort = read(source)
    assert Counter(cohort.column("patient"))["Müller"] == 4


def test_patients_whose_names_differ_in_what_nobody_means_stay_in_one_drawn_split(source):
    rows = source[1]
    rows["pid"] = "P-" + rows["pid"]
    rows.loc[[8, 9], "pid"] = "p\N{EN DASH}000"
    for seed in range(5):
        cohort = read(source, seed=seed)
        side = dict(zip(cohort.column("patient"), cohort.column("split"), strict=True))
        assert side["P-000"] == side["p\N{EN DASH}000"]
    (warning,) = [w for w in read(source, split_column="set").warnings if "differ from another" in w]
    assert "1 of them lie in another split" in warning


def test_a_label_in_two_spellings_that_look_the_same_is_one(source):
    rows = source[1]
    rows["code"] = [["ödème", "o\u0308de\u0300me", "mass"][n % 3] for n in range(60)]
    cohort = read(source, label_column="code")
    assert cohort.labels == ("mass", "ödème") and cohort.targets_NC().sum(axis=0).tolist() == [20, 40]
    assert any("1 labels are written as others" in w for w in cohort.warnings)


def test_columns_are_found_by_what_is_seen_of_their_names(source):
    folder, rows = source
    rows = rows.rename(columns={"pid": "patie\u0301nt  id", "Edema": "o\u0308dem"})
    cohort = read((folder, rows), patient_column="patiént id", labels=["ödem", "Fracture"])
    assert cohort.labels == ("o\u0308dem", "Fracture")
    rows["ödem"] = 0
    with pytest.raises(InputError, match="2 columns are called 'ödem'"):
        read((folder, rows), patient_column="patiént id", labels=["ödem", "Fracture"])


MARKERS = ["None", "NULL", "<NA>", "#N/A", "n/a", "NaT", "-", "?", "NA", "nan"]


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_of_what_is_missing_is_no_patient_unless_it_is_said_to_be_one(source, marker):
    source[1].loc[[4, 5], "pid"] = marker
    with pytest.raises(InputError, match=r"column 'pid' is blank.*pass --not-missing '?" + re.escape(marker)):
        read(source)
    assert Counter(read(source, not_missing=[marker.upper()]).column("patient"))[marker] == 2


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_of_what_is_missing_is_no_label_and_that_is_said(source, marker):
    source[1]["code"] = source[1]["code"].replace("", marker)
    cohort = read(source, label_column="code")
    assert cohort.labels == ("edema", "fracture")
    assert np.isnan(cohort.targets_NC()[3]).all()
    assert any(f"it holds a marker ({marker} 15); pass --not-missing" in w for w in cohort.warnings)
    assert marker in read(source, label_column="code", not_missing=[marker]).labels


def test_a_marker_in_any_other_column_is_a_blank(source):
    rows = source[1]
    rows["sex"] = rows["sex"].replace("M", "?")
    rows["age"] = rows["age"].astype(str).replace("30", "#N/A")
    rows["Edema"] = rows["Edema"].astype(object).replace(0, "-")
    cohort = read(source, keep=["sex", "age"], labels=["Edema", "Fracture"], view_column="view")
    assert set(cohort.column("keep.sex")) == {"F", None} and cohort.column("keep.age")[:2] == [None, 31]
    assert np.isnan(cohort.targets_NC()[1, 0])


# What is asked for and is not there


def test_a_view_that_no_row_has_and_what_is_left_out_are_said(source):
    source[1]["view"] = ["PA", "AP", "AP Supine"] * 20
    cohort = read(source, view_column="view", views=["PA", "ap", "APS"])
    assert cohort.flow[1] == ("view among PA, ap, APS (left out: AP Supine 20)", 40)
    (warning,) = [w for w in cohort.warnings if "no row has the view 'APS'" in w]
    assert "AP Supine" in warning and "20 rows of others are left out" in warning


def test_labels_choose_among_those_that_a_column_names(source):
    source[1]["code"] = ["edema", "edema|mass", "fracture|mass", ""] * 15
    cohort = read(source, label_column="code", labels=["mass", "edema"])
    assert cohort.labels == ("mass", "edema")
    np.testing.assert_array_equal(cohort.targets_NC()[:4], [[0, 1], [1, 1], [1, 0], [np.nan, np.nan]])
    assert "1 labels of column 'code' are left out (fracture 15)" in cohort.warnings
    with pytest.raises(InputError, match="column 'code' names no label 'Masses'; did you mean 'mass'"):
        read(source, label_column="code", labels=["Masses"])


def test_a_column_whose_name_holds_a_comma_can_be_named(source):
    folder, rows = source
    rows = rows.rename(columns={"Edema": "Mass, left"})
    assert read((folder, rows), labels=comma_separated('"Mass, left",Fracture')).labels[0] == "Mass, left"
    with pytest.raises(InputError, match=r"'Mass, left' holds a comma: put it in quotes"):
        read((folder, rows), labels=comma_separated("Mass, left"))


def test_a_cohort_that_no_study_can_use_says_so(source):
    rows = source[1]
    rows["set"] = rows["set"].replace("valid", "train")
    warnings = read(source, split_column="set").warnings
    assert any(w.startswith("no val split: `radtune run` needs both") for w in warnings)
    (few,) = [
        w for w in warnings if w.startswith("no label has 10 positive and 10 negative patients in test")
    ]
    assert "(of the rarer at most 6)" in few and "put more patients into it" in few
    rows["set"] = "train"
    assert any(w.startswith("no test split") for w in read(source, split_column="set").warnings)


def test_a_cohort_that_can_be_scored_is_not_warned_of(source):
    source[1]["set"] = ["train", "val", "test"] * 20
    source[1]["pid"] = [f"p{n}" for n in range(60)]
    source[1]["Edema"] = [n // 3 % 2 for n in range(60)]  # 10 and 10 in test
    assert not any("10 positive" in w or "split:" in w for w in read(source, split_column="set").warnings)


def test_lists_in_a_label_column_are_lists(source):
    """As in PadChest, SCIN and FLAIR's tables; names there begin and end with blanks."""
    lists = ["['edema']", "['edema', ' fracture']", '["fracture", ""]', ""]
    source[1]["code"] = [lists[n % 4] for n in range(60)]
    cohort = read(source, label_column="code")
    assert cohort.labels == ("edema", "fracture") and not any("several in one" in w for w in cohort.warnings)
    np.testing.assert_array_equal(cohort.targets_NC()[:4], [[1, 0], [1, 1], [0, 1], [np.nan, np.nan]])


def test_a_column_of_run_lengths_or_ids_is_refused_as_labels(source):
    source[1]["code"] = ["-1" if n % 2 else f"{n} 3 1021 4 {n} 7" for n in range(60)]
    with pytest.raises(InputError, match=r"column 'code' holds no labels but run lengths .*annotate"):
        read(source, label_column="code")
    with pytest.raises(InputError, match=r"column 'exam' holds no labels but ids"):
        read(source, label_column="exam")


def test_a_kept_column_that_disagrees_within_an_image_is_refused(source):
    folder, rows = source
    again = rows.iloc[[0]].assign(code="fracture", age=99)
    pd.concat([rows, again]).to_csv(folder / "again.csv", index=False)
    with pytest.raises(InputError, match=r"row 62: image 'img_00.png' has '99' in column 'age', but '30'"):
        read(source, table=folder / "again.csv", label_column="code", keep=["sex", "age"])


@pytest.fixture
def rated(source):
    """Three raters of thirty images: Edema by one of them on each, two on every third, all on every sixth."""
    folder, _ = source
    with (folder / "rated.csv").open("w") as file:
        file.write("file,pid,rad_id,finding,Edema\n")
        for n in range(PATIENTS):
            for r in range(3):
                edema = n % (1, 3, 6)[r] == 0
                file.write(f"img_{n:02}.png,{n // 2},R{r + 1},{'Edema' if edema else 'none seen'},{edema}\n")
    return folder, folder / "rated.csv"


@pytest.mark.parametrize(("rule", "positive"), [("any", 30), ("majority", 10), ("all", 5), ("R3", 5)])
def test_several_raters_come_to_the_answer_that_is_asked_for(rated, rule, positive):
    folder, table = rated
    arguments = {"image_column": "file", "patient_column": "pid", "rater_column": "rad_id", "raters": rule}
    options = TableOptions(label_column="finding", **arguments)
    cohort = read_table(table, folder / "images", folder / "cohort", options)
    assert (cohort.targets_NC()[:, cohort.labels.index("Edema")] == 1).sum() == positive
    assert cohort.raters.rule == rule and cohort.raters.images == 30 and cohort.raters.count == 3
    assert cohort.raters.disagreements["Edema"] == 25
    assert f"Raters: {rule} (3 in all, 30 images have two at least)" in describe(cohort)
    if rule == "majority":
        columns = TableOptions(labels=["Edema"], **arguments)
        again = read_table(table, folder / "images", folder / "cohort", columns)
        assert (again.targets_NC() == 1).sum() == positive
        assert again.raters.kappa["Edema"] == pytest.approx(cohort.raters.kappa["Edema"])


def test_raters_that_nobody_named_are_refused(rated):
    folder, table = rated
    options = TableOptions(image_column="file", patient_column="pid", label_column="finding")
    with pytest.raises(InputError, match=r"several raters in column 'rad_id'; pass --rater-column 'rad_id'"):
        read_table(table, folder / "images", folder / "cohort", options)


def test_a_rater_that_is_not_there_is_refused(rated):
    folder, table = rated
    options = TableOptions(
        image_column="file", patient_is_image=True, label_column="finding", rater_column="rad_id", raters="R9"
    )
    with pytest.raises(InputError, match=r"--raters must be any, .* got 'R9'; there are: R1, R2, R3"):
        read_table(table, folder / "images", folder / "cohort", options)


@pytest.mark.parametrize(("rule", "positive"), [("any", 20), ("majority", 10)])
def test_several_rows_of_an_image_with_label_columns_need_a_rule(source, rule, positive):
    """As RSNA's boxes: one row per box."""
    folder, _ = source
    with (folder / "boxes.csv").open("w") as file:
        file.write("file,Target\n")
        for n in range(30):
            cells = [[0], [0, 0, 1], [1, 1, 0]][n % 3]
            file.writelines(f"img_{n:02}.png,{cell}\n" for cell in cells)
    options = {"image_column": "file", "labels": ["Target"], "patient_is_image": True}
    with pytest.raises(InputError, match="pass --rows any or --rows majority"):
        read_table(folder / "boxes.csv", folder / "images", folder / "cohort", TableOptions(**options))
    cohort = read_table(
        folder / "boxes.csv", folder / "images", folder / "cohort", TableOptions(**options, rows=rule)
    )
    assert (cohort.targets_NC() == 1).sum() == positive and len(cohort.images()) == 30


def test_names_that_tell_patients_are_not_passed_over(source):
    folder, rows = source
    for n in range(60):
        (folder / "images" / f"img_{n:02}.png").rename(folder / "images" / f"{n // 2}_{'lr'[n % 2]}.png")
    rows["file"] = [f"{n // 2}_{'lr'[n % 2]}" for n in range(60)]
    with pytest.raises(InputError, match=r"pass --patient-from '\(\?:\^\|/\)\(\[0-9\]\+\)"):
        read(source, patient_column=None)
    cohort = read(source, patient_column=None, patient_from=r"([0-9]+)_")
    assert cohort.column("patient") == [f"{n // 2}" for n in range(60)]
    own = read(source, patient_column=None, patient_is_image=True)
    assert len(set(own.column("patient"))) == 60 and not any("own patient" in w for w in own.warnings)


def test_grades_are_positive_from_one_of_them_on(source):
    source[1]["grade"] = [n // 2 % 5 for n in range(60)]
    with pytest.raises(InputError, match=r"got '2'; of grades .* --positive-from GRADE"):
        read(source, labels=["grade"])
    cohort = read(source, labels=["grade"], positive_from=2)
    np.testing.assert_array_equal(cohort.targets_NC()[:, 0], [n // 2 % 5 >= 2 for n in range(60)])


def test_no_finding_is_what_it_is_whatever_rare_labels_are_left_out(source):
    source[1]["Edema"] = [int(n < 2) for n in range(60)]
    source[1]["Fracture"] = [n // 2 % 2 for n in range(60)]
    arguments = {"labels": ["Edema", "Fracture", NO_FINDING], "no_finding": "complement"}
    cohort = read(source, min_patients=2, **arguments)
    assert cohort.labels == ("Fracture", NO_FINDING)
    np.testing.assert_array_equal(cohort.targets_NC()[:4, 1], [0, 0, 0, 0])
    np.testing.assert_array_equal(cohort.targets_NC()[4:6, 1], [1, 1])


def test_markers_levels_and_rare_labels_as_asked(source):
    names = ["Pneumonia/Viral", "Pneumonia/Bacterial", "todo"]
    source[1]["code"] = [names[n // 2 % 3] if n > 1 else "Hernia" for n in range(60)]
    plain = read(source, label_column="code")
    assert "todo" in plain.labels and any("placeholders" in w for w in plain.warnings)
    asked = read(source, label_column="code", missing=["todo"], label_levels="all", min_patients=2)
    assert asked.labels == ("Pneumonia", "Pneumonia/Bacterial", "Pneumonia/Viral")
    assert any("left out (Hernia 1)" in warning for warning in asked.warnings)
