"""IU-Xray: the real tables, and a labeler's CSV."""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cohort.errors import InputError
from cohort.labels import CHEXPERT_14, NO_FINDING, LabelPolicy
from cohort.manifest import LABEL
from cohort.readers.iu_xray import IuXrayOptions, compare_with_paper, read_iu_xray
from cohort.summary import describe

# ---- the real tables

POSITIVE_UNCERTAIN = {
    "Enlarged Cardiomediastinum": (32, 9),
    "Cardiomegaly": (308, 47),
    "Lung Opacity": (559, 162),
    "Lung Lesion": (125, 91),
    "Edema": (45, 48),
    "Consolidation": (28, 0),
    "Pneumonia": (39, 1),
    "Atelectasis": (308, 9),
    "Pneumothorax": (28, 0),
    "Pleural Effusion": (147, 47),
    "Pleural Other": (57, 5),
    "Fracture": (88, 67),
    "Support Devices": (171, 96),
}


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    folder = real_data / "iu_xray"
    return read_iu_xray(
        folder / "indiana_reports.csv",
        folder / "indiana_projections.csv",
        folder / "images_normalized",
        tmp_path_factory.mktemp("iu") / "cohort",
        IuXrayOptions(split="paper"),
    )


def test_the_real_tables_give_the_counts_of_the_reviewed_mapping(real):
    for label, (positive, uncertain) in POSITIVE_UNCERTAIN.items():
        assert real.table[LABEL + label].to_pylist().count(1) == positive, label
        assert real.uncertain[label] == uncertain, label


def test_no_finding_by_complement_leaves_out_what_nobody_annotated(real):
    """2,565 annotated images without a positive finding, less 7 with a remark on quality and nothing else."""
    column = real.table[LABEL + NO_FINDING].to_pylist()
    assert column.count(1) == 2558
    text = compare_with_paper(real)
    assert "2656 images without a positive finding, 2565 of them labelled, 2558 by the policy; 1387" in text
    assert all(line.strip() in describe(real) for line in text.splitlines())
    assert "Lung Opacity 516 559 162 253" in [" ".join(line.split()) for line in text.splitlines()]


def test_the_91_images_without_annotation_are_masked_throughout(real):
    columns = [real.table[LABEL + label].to_pylist() for label in real.labels]
    assert sum(set(row) == {None} for row in zip(*columns, strict=True)) == 91
    assert "91 images have no annotation: all labels masked" in real.warnings


def test_the_real_tables_are_read_whole_and_the_missing_images_named(real):
    assert real.flow == (("rows of projections", 7466), ("frontal", 3818), ("image file there", 3))
    assert Counter(real.table["split"].to_pylist()) == {"train": 2670, "val": 575, "test": 573}
    assert real.present.num_rows == 3 and real.contradictions == ()
    (missing,) = [warning for warning in real.warnings if "missing" in warning]
    assert missing.startswith("3815 of 3818 image files are missing (1_IM-0001-4001.dcm.png, 2_IM-0652-1001")
    assert "NLMCXR_png.tgz" in missing and "Chest X-rays (Indiana University)" in missing
    assert [real.files().decode(i).shape for i in range(3)] == [(2496, 2048), (2496, 2048), (2048, 2160)]


def test_the_real_reports_say_where_hundreds_of_findings_are(real):
    side = Counter(real.table["keep.side"].to_pylist())
    assert (side["left"], side["right"], side["bilateral"]) == (231, 270, 321)
    report = real.table["keep.report"].to_pylist()
    assert report[0].endswith("no evidence of pneumothorax. Normal chest x-XXXX.")


def test_the_stratified_split_spreads_every_label_of_the_real_tables(real_data, tmp_path):
    folder = real_data / "iu_xray"
    cohort = read_iu_xray(
        folder / "indiana_reports.csv",
        folder / "indiana_projections.csv",
        folder / "images_normalized",
        tmp_path / "cohort",
    )
    split = np.array(cohort.table["split"].to_pylist())
    for label, (positive, _) in POSITIVE_UNCERTAIN.items():
        column = np.array(cohort.table[LABEL + label].to_pylist()) == 1
        assert abs(column[split == "test"].sum() - 0.15 * positive) <= 2, label
    assert not any(warning.startswith("no positive") for warning in cohort.warnings)


# ---- small tables


@pytest.fixture
def source(tmp_path):
    uids = range(1, 21)
    mesh = ["normal", "Cardiomegaly", "Opacity/lung;Pleural Effusion", "No Indexing"]
    pd.DataFrame(
        {
            "uid": uids,
            "MeSH": [mesh[uid % 4] for uid in uids],
            "findings": ["Clear." if uid % 2 else None for uid in uids],
            "impression": "Stable.",
        }
    ).to_csv(tmp_path / "reports.csv", index=False)
    rows = [(uid, f"{uid}_IM-1.dcm.png", "Frontal") for uid in uids]
    rows += [(uid, f"{uid}_IM-2.dcm.png", "Lateral") for uid in uids]
    pd.DataFrame(rows, columns=["uid", "filename", "projection"]).to_csv(
        tmp_path / "projections.csv", index=False
    )
    (tmp_path / "images").mkdir()
    for uid in uids:
        buffer = io.BytesIO()
        Image.fromarray(np.full((9, 9), uid, dtype=np.uint8)).save(buffer, "PNG")
        # Half of them under the names of Open-i's own archive.
        name = f"{uid}_IM-1.dcm.png" if uid % 2 else f"CXR{uid}_IM-1.png"
        (tmp_path / "images" / name).write_bytes(buffer.getvalue())
    return tmp_path


def read(source, **arguments):
    return read_iu_xray(
        source / "reports.csv",
        source / "projections.csv",
        source / "images",
        source / "cohort",
        IuXrayOptions(**arguments),
    )


def test_images_are_found_under_the_names_of_either_release(source):
    cohort = read(source)
    assert cohort.present.num_rows == 20
    assert cohort.column("file")[:2] == ["1_IM-1.dcm.png", "CXR2_IM-1.png"]
    assert cohort.column("patient")[:2] == cohort.column("study")[:2] == ["1", "2"]
    assert cohort.column("keep.report")[:2] == ["Clear. Stable.", "Stable."]


def test_a_uid_in_two_spellings_that_look_the_same_is_one_patient(source):
    for name in ("reports", "projections"):
        path = source / f"{name}.csv"
        frame = pd.read_csv(path, dtype=str)
        same = frame["uid"] == "2"
        frame.loc[same, "uid"] = "2\u200b" if name == "projections" else "2"
        frame.to_csv(path, index=False)
    cohort = read(source)
    assert cohort.column("patient")[:2] == ["1", "2"]
    assert any("uids are written as others" in warning for warning in cohort.warnings)


def test_the_collections_licence_is_stated_unless_another_is_given(source):
    cohort = read(source)
    assert cohort.licence == "CC BY-NC-ND 4.0" and cohort.modality == "chest radiograph"
    assert cohort.reader == "iu_xray" and not cohort.drawn
    assert read(source, licence="of my own").licence == "of my own"


def test_other_words_for_labels_reach_the_manifest(source):
    cohort = read(source, label_names={"Edema": "pulmonary oedema"}, label_prompts={"Edema": ["wet lungs"]})
    assert cohort.label_names == {"Edema": "pulmonary oedema"} and not cohort.multiclass
    assert cohort.label_prompts == {"Edema": ("wet lungs",)}


def test_a_labelers_csv_takes_the_place_of_mesh(source):
    rng = np.random.default_rng(0)
    cells = rng.choice([1, 0, -1, np.nan], size=(20, 13))
    labels = pd.DataFrame(cells, columns=CHEXPERT_14[:-1]).assign(uid=range(1, 21))
    labels[1:].to_csv(source / "labels.csv", index=False)  # the first report is not labelled
    cohort = read(source, labels=source / "labels.csv")
    targets = cohort.targets_NC()
    assert np.isnan(targets[0]).all()
    expected = np.where(np.isnan(cells), 0, np.where(cells == -1, np.nan, cells))[1:]
    np.testing.assert_array_equal(targets[1:, :13], expected.astype(np.float32))
    np.testing.assert_array_equal(targets[1:, 13], ~(expected == 1).any(axis=1))
    assert cohort.policy == LabelPolicy("ignore", "negative", "complement")
    assert cohort.source == "IU-Xray, labels of labels.csv"
    assert cohort.uncertain["Edema"] == (cells[1:, 4] == -1).sum()


def test_no_finding_that_the_labelers_csv_lacks_is_derived_and_never_taken_as_given(source):
    labels = pd.DataFrame(0, index=range(20), columns=CHEXPERT_14[:-1]).assign(uid=range(1, 21))
    labels.to_csv(source / "labels.csv", index=False)
    message = r"labels\.csv: no column 'No Finding', so it cannot be taken as given"
    with pytest.raises(InputError, match=message):
        read(source, labels=source / "labels.csv", no_finding="as-given")
    assert (read(source, labels=source / "labels.csv").targets_NC()[:, 13] == 1).all()


def test_a_labelers_csv_may_name_files_instead_of_reports(source):
    labels = pd.DataFrame(1, index=range(20), columns=CHEXPERT_14[:-1])
    labels["filename"] = [f"{uid}_IM-1.dcm.png" for uid in range(1, 21)]
    labels.to_csv(source / "labels.csv", index=False)
    assert (read(source, labels=source / "labels.csv").targets_NC()[:, :13] == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(columns={"uid": "report"}), "no column 'uid' or 'filename'"),
        (lambda f: f.rename(columns={"Edema": "edema"}), r"no label column 'Edema'; did you mean 'edema'\?"),
        (lambda f: pd.concat([f, f[:1]]), r"row 22: uid '1' stands in an earlier row already"),
        (lambda f: f.assign(uid=f["uid"] + 900), "none of its 20 rows has the uid of a frontal image"),
        (
            lambda f: f.assign(Edema=3),
            r"row 2: label 'Edema' must be 1, 0, -1 \(uncertain\), yes, no or blank, got '3'",
        ),
    ],
)
def test_a_wrong_labelers_csv_is_refused(source, change, message):
    labels = pd.DataFrame(1, index=range(20), columns=CHEXPERT_14).assign(uid=range(1, 21))
    change(labels).to_csv(source / "labels.csv", index=False)
    with pytest.raises(InputError, match=message):
        read(source, labels=source / "labels.csv")


def test_a_frontal_image_without_a_report_is_refused(source):
    reports = pd.read_csv(source / "reports.csv")
    reports[2:].to_csv(source / "reports.csv", index=False)
    with pytest.raises(InputError, match=r"reports\.csv: no report for uid '1' \(2 in all\)"):
        read(source)


def test_the_label_rules_reach_the_targets(source):
    reports = pd.read_csv(source / "reports.csv")
    reports.loc[0, "MeSH"] = "Cardiomegaly/borderline"
    reports.to_csv(source / "reports.csv", index=False)
    cohort = read(source, uncertain="ones", blank="negative", no_finding="strict")
    assert cohort.targets_NC()[0, [1, 13]].tolist() == [1, 0]
    assert np.isnan(cohort.targets_NC()[2]).all()  # No Indexing stays masked whatever blanks mean
    assert cohort.policy == LabelPolicy("ones", "negative", "strict")


def test_fractions_are_of_the_stratified_split_only(source):
    assert Counter(read(source, fractions=[0.5, 0.25, 0.25]).column("split"))["train"] == 10
    with pytest.raises(InputError, match="fractions are those of a stratified split"):
        read(source, fractions=[0.5, 0.25, 0.25], split="paper")


def test_an_unknown_split_and_a_missing_column_are_refused(source):
    with pytest.raises(InputError, match="split must be stratified or paper, got 'random'"):
        read(source, split="random")
    pd.read_csv(source / "reports.csv").drop(columns="MeSH").to_csv(source / "reports.csv", index=False)
    with pytest.raises(InputError, match=r"reports\.csv: no column 'MeSH'"):
        read(source)


def test_an_unknown_mesh_heading_is_a_warning(source):
    reports = pd.read_csv(source / "reports.csv")
    reports.loc[0, "MeSH"] = "Dragon/left"
    reports.to_csv(source / "reports.csv", index=False)
    assert "MeSH headings without a rule, taken for no label: Dragon" in read(source).warnings


def test_the_papers_counts_are_of_no_other_source(source):
    cohort = read(source)
    cohort = replace(cohort, source="table x.csv", reader="table")
    with pytest.raises(InputError, match="the paper's counts are of IU-Xray, this cohort is table x"):
        compare_with_paper(cohort)


def test_open_is_archive_gives_the_labels_of_kaggles_tables(real, real_data, tmp_path):
    folder = real_data / "iu_xray"
    cohort = read_iu_xray(
        folder / "NLMCXR_reports.tgz",
        folder / "indiana_projections.csv",
        folder / "images_normalized",
        tmp_path / "cohort",
        IuXrayOptions(split="paper"),
    )
    for label in CHEXPERT_14:
        assert cohort.table[LABEL + label].to_pylist() == real.table[LABEL + label].to_pylist(), label
    every = read_iu_xray(
        folder / "NLMCXR_reports.tgz", None, folder / "images_normalized", tmp_path / "all", IuXrayOptions()
    )
    assert every.table.num_rows == 7470 and any("not told apart" in warning for warning in every.warnings)
