"""The summary: what `radtune cohort show` prints."""

import numpy as np

from cohort.labels import NO_FINDING, LabelPolicy
from cohort.summary import describe
from cohort.writing import write_cohort


def test_the_summary_counts_by_hand(tmp_path):
    images = [f"i{n}" for n in range(8)]
    cohort = write_cohort(
        tmp_path / "c",
        {
            "image": images,
            "file": images,
            "digest": ["x", "x", "y", "z", "x", "y", "u", ""],
            "present": [True] * 7 + [False],
            "patient": ["a", "a", "b", "c", "d", "e", "f", "f"],
            "study": images,
            "view": ["PA"] * 5 + ["AP"] * 2 + [""],
            "split": ["train"] * 4 + ["val"] * 2 + ["test"] * 2,
            "keep.age": [20, 30, 40, 50, 60, 70, None, None],
            "keep.sex": ["F", "M", "F", "F", "M", None, "F", "F"],
        },
        np.array([[1, 0], [1, 1], [0, 0], [np.nan, 1], [1, 0], [0, 1], [0, np.nan], [1, np.nan]]),
        labels=["Edema", NO_FINDING],
        source="a table",
        drawn=True,
        modality="ultrasound",
        licence="CC BY 4.0",
        policy=LabelPolicy({"Edema": "ones"}, "missing", "strict"),
        images_root="/images",
        flow=[("rows read", 12), ("images", 8)],
        warnings=["careful"],
        contradictions=["i1", "i3"],
        uncertain={"Edema": 3},
        duplicates=[("i0", "i1", None), ("i0", "i4", None), ("i2", "i5", 0.99871)],
    )
    lines = [" ".join(line.split()) for line in describe(cohort).splitlines()]
    for expected in (
        "source a table",
        "images /images (gray)",
        "modality ultrasound, drawn in code",
        "licence CC BY 4.0",
        "policy uncertain: Edema ones, others ignore; blank: missing; No Finding: strict",
        "12 rows read",
        "train 4 50.0% 3 0",
        "test 2 25.0% 1 1",
        "all 8 100.0% 6 1",
        # positives (prevalence) train, val, test, all; positive patients; masked; uncertain
        "Edema 2 (66.7%) 1 (50.0%) 1 (50.0%) 4 (57.1%) 1/1/1 1 3",
        "No Finding 2 (50.0%) 1 (50.0%) 0 (all masked) 3 (50.0%) 2/1/0 2 0",
        "PA 5",
        "(blank) 1",
        "age 6 20 to 70, median 45",
        "sex 7 F 5, M 2",
        "Files: 7 present, 1 missing or unreadable",
        "Images that are the same or nearly so: 5 of 7, in pairs",
        "the same pixels 2 i0 = i1; i0 = i4",
        "correlation above 0.99 1 i2 ~ i5, 0.998",
        "across splits 2 i0 (train) = i4 (val); i2 (train) ~ i5 (val), 0.998",
        "across patients 2 i0 (patient a) = i4 (patient d); i2 (patient b) ~ i5 (patient e), 0.998",
        "with different labels 2 i0 (Edema) = i1 (Edema + No Finding); i2 (none) ~ i5 (No Finding), 0.998",
        "Contradictions (No Finding together with a finding): 2 (i1, i3)",
        "careful",
        "no positive in test: No Finding",
    ):
        assert expected in lines, expected
    assert not any(line != line.rstrip() for line in describe(cohort).splitlines())


def test_a_cohort_of_test_images_only_is_shown_without_the_other_splits(tmp_path):
    images = ["a", "b"]
    cohort = write_cohort(
        tmp_path / "c",
        {name: images for name in ("image", "file", "digest", "patient", "study", "view")}
        | {"present": [True, True], "split": ["test", "test"]},
        np.array([[1], [0]]),
        labels=["Edema"],
        source="another hospital",
        policy=LabelPolicy(),
        images_root="/images",
    )
    lines = [" ".join(line.split()) for line in describe(cohort).splitlines()]
    assert "images share patients" in lines and "test 2 100.0% 2" in lines
    assert "test all patients test" in lines
    assert "Edema 1 (50.0%) 1 (50.0%) 1" in lines
    assert "licence not stated" in lines
    assert not any(line.startswith(("train", "val", "Warnings")) for line in lines)


def test_the_patients_without_a_label_are_counted_where_they_are_fewer(tmp_path):
    images = list("abcdef")
    cohort = write_cohort(
        tmp_path / "c",
        {name: images for name in ("image", "file", "digest", "patient", "study", "view")}
        | {"present": [True] * 6, "split": ["train"] * 3 + ["test"] * 3},
        np.array([[1, 1, 0, 1, 1, 1], [0, 1, 0, 1, 0, 0]]).T,
        labels=["common", "rare"],
        source="a ward",
        policy=LabelPolicy(),
        images_root="/images",
    )
    lines = [" ".join(line.split()) for line in describe(cohort).splitlines()]
    assert any(line.startswith("common") and "2/3 (without 1/0)" in line for line in lines)
    assert any(line.startswith("rare") and "1/1" in line and "without" not in line for line in lines)


def test_what_does_not_apply_is_left_out(tmp_path):
    """Skin lesions, one diagnosis each: no views, nothing masked, uncertain or missing, no "No Finding"."""
    images = ["a", "b"]
    facts = {"labels": ["nv", "mel"], "source": "skin", "policy": LabelPolicy(), "images_root": "/images"}
    columns = {name: images for name in ("image", "file", "digest", "patient", "study")}
    columns |= {"view": ["", ""], "present": [True, True], "split": ["test", "test"]}
    text = describe(write_cohort(tmp_path / "c", columns, np.eye(2), **facts))
    for absent in ("Views", "masked", "uncertain\n", NO_FINDING, "Contradictions", "Identical", "  missing"):
        assert absent not in text, absent
    assert "uncertain: ignore; blank: missing\n" in text
    with_finding = {**facts, "labels": ["nv", NO_FINDING]}
    text = describe(write_cohort(tmp_path / "d", columns, np.array([[1, 0], [0, 0]]), **with_finding))
    assert "Contradictions (No Finding together with a finding): 0" in text
    assert "Contradictions" not in describe(
        write_cohort(tmp_path / "e", columns, np.eye(2), **with_finding, multiclass=True)
    )
