"""`radtune compare` on two small real cohorts, one of them in colour, and its one-line refusals."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

import vlm.embeddings
from cohort.errors import InputError
from cohort.labels import LabelPolicy
from cohort.manifest import TEST_ACCESS, Cohort
from cohort.writing import write_cohort
from study.cli import main
from study.compare import compare_encoders
from tests.study.conftest import square_cohort


def colour_cohort(folder, images=96):
    """Red and blue squares, one label per image, two images a patient."""
    rng = np.random.default_rng(0)
    pictures = folder.parent / f"{folder.name}-images"
    pictures.mkdir(parents=True)
    class_N = np.repeat(rng.integers(0, 3, images // 2), 2)
    for i, of in enumerate(class_N):
        pixels = rng.normal(100, 40, (40, 40, 3))
        pixels[..., of] += 60
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(pictures / f"{i:03d}.png")
    names = [f"{i:03d}.png" for i in range(images)]
    patients = [f"p{i // 2}" for i in range(images)]
    columns = {
        "image": names,
        "file": names,
        "digest": [hashlib.sha256((pictures / name).read_bytes()).hexdigest() for name in names],
        "present": [True] * images,
        "patient": patients,
        "study": patients,
        "view": [""] * images,
        "split": [("train", "train", "val", "test")[i // 2 % 4] for i in range(images)],
    }
    return write_cohort(
        folder,
        columns,
        np.eye(3)[class_N],
        labels=("red", "green", "blue"),
        source="squares in colour",
        policy=LabelPolicy(),
        images_root=pictures,
        multiclass=True,
        channels=3,
        modality="dermoscopy",
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    gray, colour = folder / "gray", folder / "colour"
    square_cohort(gray)
    colour_cohort(colour)
    lines, counted = [], []
    embed_images = vlm.embeddings.embed_images

    def counting(encoder, images_BHWC, precision):
        counted.append((encoder.name, len(images_BHWC)))
        return embed_images(encoder, images_BHWC, precision)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vlm.embeddings, "embed_images", counting)
        result = compare_encoders(
            [gray, colour],
            ["phantom-clip"],
            folder / "out",
            features=["projected", "deep"],
            cache=folder / "cache",
            echo=lines.append,
        )
    return SimpleNamespace(
        folder=folder,
        result=result,
        lines=lines,
        counted=counted,
        table=pd.read_csv(folder / "out/comparison.csv"),
    )


def test_every_encoder_stands_beside_raw_pixels_on_every_cohort(compared):
    table = compared.table
    assert list(table.columns[:8]) == [
        "encoder",
        "cohort",
        "setting",
        "metric",
        "label",
        "value",
        "low",
        "high",
    ]
    lines = set(table[["encoder", "cohort", "setting"]].itertuples(index=False, name=None))
    assert lines == {
        (encoder, cohort, kind)
        for encoder, kind in (
            ("phantom-clip", "projected"),
            ("phantom-clip", "deep"),
            ("pixels", "projected"),
        )
        for cohort in ("gray", "colour")
    } | {("phantom-clip", "all cohorts", kind) for kind in ("projected", "deep")}
    averages = table[table["label"].isna()]
    for metric in ("ratio", "logistic_accuracy", "probe.macro_auroc", "discriminated", "shift"):
        assert set(averages[averages["metric"] == metric]["cohort"]) >= {"gray", "colour"}, metric
    probes = averages[averages["metric"] == "probe.macro_auroc"].set_index(["encoder", "cohort", "setting"])
    assert probes.loc[("pixels", "colour", "projected"), "value"] > 0.95  # pixels see colour where there is
    assert averages["metric"].str.startswith("zero-shot.").any()


def test_kinds_of_image_lie_further_apart_than_findings(compared):
    averages = compared.table[compared.table["label"].isna()].set_index(
        ["encoder", "cohort", "setting", "metric"]
    )
    kinds = averages.loc[
        ("phantom-clip", "all cohorts", "projected", "kind_of_image.logistic_accuracy"), "value"
    ]
    findings = averages.loc[("phantom-clip", "gray", "projected", "logistic_accuracy"), "value"]
    assert kinds > 0.9 > findings


def test_each_image_is_embedded_once_an_encoder_and_its_speed_said(compared):
    counts = pd.DataFrame(compared.counted, columns=["encoder", "images"]).groupby("encoder")["images"].sum()
    assert counts["phantom-clip"] == 160 + 96
    assert sum(count for name, count in counts.items() if name.startswith("pixels")) == 160 + 96
    assert len(compared.lines) == 4
    assert all("images/s" in line and "probe's macro AUROC" in line for line in compared.lines)
    speeds = compared.table[compared.table["metric"] == "images_per_second"]["value"]
    assert (speeds > 0).all()
    again = []
    result = compare_encoders(
        [compared.folder / "gray"],
        ["pixels"],
        compared.folder / "again",
        cache=compared.folder / "cache",
        echo=again.append,
    )
    # What an earlier pass measured is not held against the passes of this one.
    assert "embedded before" in again[0]
    speeds = result.table[result.table["metric"] == "images_per_second"]["value"]
    assert len(speeds) == 1 and speeds.isna().all()


def test_the_page_says_that_no_label_is_shared_and_tests_the_probes_in_pairs(compared):
    page = compared.result.report.read_text()
    assert "The cohorts have no label in common" in page
    assert (compared.folder / "out/figures/comparison.png").exists()
    assert " averaged" in page
    paired = pd.read_csv(compared.folder / "out/paired.csv")
    assert set(paired["cohort"]) == {"gray", "colour"} and len(paired) == 6
    assert (paired["p_holm"].dropna() >= paired["p"].dropna()).all()
    # Fewer than ten patients on the smaller sides together are not tested.
    assert (paired["p"].isna() == (paired["patients"] < 10)).all()


def test_encoders_are_compared_out_of_fold_and_test_labels_read_only_where_asked_for(compared):
    ledger = compared.folder / "gray" / TEST_ACCESS
    assert not ledger.exists() and "out of fold on development patients" in compared.result.headline
    result = compare_encoders(
        [compared.folder / "gray"],
        ["pixels"],
        compared.folder / "on-test",
        on="test",
        cache=compared.folder / "cache",
        echo=str,
    )
    (line,) = ledger.read_text().splitlines()
    assert "compare encoders" in line and "on test patients" in result.headline


def test_labels_that_cohorts_share_stand_side_by_side_and_smaller_pixels_are_another_encoder(compared):
    folder = compared.folder
    square_cohort(folder / "other", seed=5)
    result = compare_encoders(
        [folder / "gray", folder / "other"],
        ["pixels:8x8x1"],
        folder / "shared",
        cache=folder / "cache",
        echo=str,
    )
    assert "Labels in all cohorts: Bright, Left, Rare." in result.report.read_text()
    assert list(dict.fromkeys(result.table["encoder"])) == ["pixels:8x8x1", "pixels"]


def test_a_label_of_one_patient_is_named_and_survived(compared):
    folder = compared.folder
    cohort = Cohort.open(folder / "gray")
    targets_NC = cohort.targets_NC()
    test_N = cohort.indices("test")
    targets_NC[test_N, 2] = 0
    targets_NC[test_N[:2], 2] = 1  # both images of one patient
    columns = {
        name: cohort.column(name) for name in ("image", "file", "digest", "present", "patient", "study")
    }
    write_cohort(
        folder / "rare",
        columns | {name: cohort.column(name) for name in ("view", "split")},
        targets_NC,
        labels=cohort.labels,
        source="squares",
        policy=LabelPolicy(),
        images_root=cohort.images_root,
    )
    result = compare_encoders(
        [folder / "rare"], ["pixels"], folder / "of-rare", on="test", cache=folder / "cache", echo=str
    )
    assert "and so left out: Rare (rare)." in result.report.read_text()
    assert "There is one encoder only" in result.report.read_text()
    assert not len(result.table[(result.table["label"] == "Rare") & (result.table["metric"] == "ratio")])


@pytest.mark.slow
def test_on_real_radiographs_overlays_and_kinds_of_image_lie_further_apart_than_findings(real_data, tmp_path):
    """As arXiv 2601.14774 observed, with an encoder that never saw a patient; and the published ratio of its
    features lies where labels permuted over patients lie."""
    for name, words in {
        "nih": "--images images --image-column image_id --patient-column patient_id --label-column "
        "finding_labels --split-column split",
        "kermany": "--images images.zip --image-column image --patient-column patient --label-column label",
    }.items():
        source = next(real_data.glob(f"{name}_*"))
        words = [str(source / word) if word.startswith("images") else word for word in words.split()]
        table = ["--table", str(source / "labels.csv"), "--out", str(tmp_path / name)]
        assert main(["cohort", "table", *table, *words]) == 0
    result = compare_encoders(
        [tmp_path / "kermany", tmp_path / "nih"],
        ["phantom-clip"],
        tmp_path / "out",
        features=["deep"],
        cache=tmp_path / "cache",
        echo=str,
    )
    table = result.table[(result.table["encoder"] == "phantom-clip") & (result.table["label"] == "")]
    findings = table[table["metric"] == "logistic_accuracy"].set_index("cohort")["value"]
    text = table[(table["metric"] == "discriminated") & (table["overlay"] == "text") & (table["text"] == "")]
    text = text.set_index("cohort")["value"]
    (kind,) = table[table["metric"] == "kind_of_image.logistic_accuracy"]["value"]
    assert kind > 0.9 and text["nih"] > findings["nih"] + 0.1 and text["kermany"] > findings["kermany"]
    published = table[(table["metric"] == "published.ratio") & (table["cohort"] == "nih")].iloc[0]
    assert published["chance_low"] < published["value"] < published["chance_high"] and published["value"] > 1


def test_what_cannot_be_compared_is_refused_in_one_line(compared, tmp_path, capsys):
    gray = str(compared.folder / "gray")

    def refused(*words):
        assert main(["compare", *words, "--cache", str(tmp_path / "cache")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("radtune: error: ") and error.count("\n") == 1
        return error

    out = str(tmp_path / "out")
    assert "given twice" in refused("--cohort", gray, "--cohort", gray, "--encoder", "pixels", "--out", out)
    assert "no cohort there" in refused("--cohort", str(tmp_path), "--encoder", "pixels", "--out", out)
    words = ("--cohort", gray, "--encoder", "pixels", "--features", "deepest", "--out", out)
    assert "--features: must be of projected, pooled, deep" in refused(*words)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("")
    words = ("--cohort", gray, "--encoder", "pixels", "--out", str(foreign))
    assert "thesis.tex" in refused(*words)
    external = Cohort.open(square_cohort(tmp_path / "external", images=20, splits=("test",)).folder)
    assert "has no train" in refused("--cohort", str(external.folder), "--encoder", "pixels", "--out", out)


def test_an_encoder_that_cannot_read_rgb_is_refused_in_one_line(compared, tmp_path):
    model = timm.create_model("test_efficientnet", in_chans=1)
    torch.save(model.state_dict(), tmp_path / "gray.pt")
    with pytest.raises(InputError, match=r"\(16, 1, 3, 3\) there, \(16, 3, 3, 3\) here|is .* there, .* here"):
        compare_encoders(
            [compared.folder / "colour"],
            [f"timm:test_efficientnet@{tmp_path / 'gray.pt'}"],
            tmp_path / "out",
            cache=tmp_path / "cache",
        )
