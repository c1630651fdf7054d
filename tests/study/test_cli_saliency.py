"""`radtune saliency` of a bundle and of a run: pictures and arrays, and what is not drawn said in words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.inside.saliency.localisation import BASELINES, CEILING
from analysis.inside.saliency.pictures import overlay
from analysis.inside.saliency.scores import (
    ABOVE_ATLAS,
    ABOVE_OTHERS,
    ALL,
    AREA,
    OTHERS,
    SALIENCY_METRICS,
    USUAL,
)
from analysis.inside.saliency.sides import ABOVE_CHANCE, BY_CHANCE, SIDE, ZONE
from analysis.inside.sections import saliency
from cohort.annotations import mask_region, write_annotations
from cohort.errors import InputError
from cohort.manifest import Cohort
from sample.phantoms import draw_cohort
from study import Study
from study.cli import main
from tests.study.conftest import settings

OF_SIDES = {SIDE, ZONE, BY_CHANCE, ABOVE_CHANCE}


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory):
    """A small study of phantom-clip on the sample, and its bundle."""
    folder = tmp_path_factory.mktemp("saliency")
    draw_cohort(folder / "cohort", images=240, size=64)
    study = Study.from_dict(settings(folder, configurations=8) | {"encoder": "phantom-clip"})
    study.run(echo=str)
    study.export(folder / "bundle")
    picture = Image.open(folder / "cohort" / "images" / "p000-1.png")
    picture.resize((64, 96)).save(folder / "tall.png")
    return folder


def test_each_label_has_a_picture_and_an_array_over_the_whole_image(looked_at, capsys):
    words = [
        str(looked_at / "tall.png"),
        "--labels",
        "Cardiomegaly,No Finding",
        "--out",
        str(looked_at / "out"),
    ]
    assert main(["saliency", str(looked_at / "bundle"), *words]) == 0
    assert "2 maps of 1 image" in capsys.readouterr().out
    found = sorted(path.name for path in (looked_at / "out" / "tall").iterdir())
    assert found == ["Cardiomegaly.npy", "Cardiomegaly.png", "No Finding.npy", "No Finding.png"]
    map_HW = np.load(looked_at / "out" / "tall" / "Cardiomegaly.npy")
    assert map_HW.shape == (96, 64) and map_HW.dtype == np.float32
    assert np.isnan(map_HW[:16]).all() and np.isnan(map_HW[80:]).all()  # what the centre crop cut off
    assert np.isfinite(map_HW[16:80]).all() and np.nanmax(map_HW) > 0
    picture = Image.open(looked_at / "out" / "tall" / "Cardiomegaly.png")
    assert picture.mode == "RGB" and picture.size == (256, 384)


def test_a_run_is_looked_into_as_its_answer_with_every_method(looked_at):
    image = str(looked_at / "tall.png")
    for method in ("gradcam", "layercam", "relevance", "eigencam"):
        out = looked_at / f"of-{method}"
        words = ["--labels", "Cardiomegaly", "--method", method, "--out", str(out)]
        assert main(["saliency", str(looked_at / "runs" / "squares"), image, *words]) == 0
        assert (out / "tall" / "Cardiomegaly.png").exists()


def test_what_is_wrong_is_said_in_one_line(looked_at, tmp_path, capsys):
    bundle, image, out = str(looked_at / "bundle"), str(looked_at / "tall.png"), str(tmp_path / "out")

    def refused(*words):
        assert main(["saliency", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("radtune: error: ") and error.count("\n") == 1
        return error

    assert "no layer 'blocks.9'; the tower has" in refused(bundle, image, "--layer", "blocks.9", "--out", out)
    assert "no label 'Hernia'" in refused(bundle, image, "--labels", "Hernia", "--out", out)
    assert "neither a bundle nor a run folder" in refused(str(tmp_path), image, "--out", out)
    assert "must be a folder" in refused(bundle, image, "--out", image)
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert "broken.png" in refused(bundle, str(tmp_path / "broken.png"), "--out", out)


def test_two_images_of_one_name_are_drawn_apart_and_it_is_said_where(looked_at, tmp_path, capsys):
    image, out = looked_at / "tall.png", tmp_path / "out"
    (tmp_path / "a").mkdir()
    other = tmp_path / "a" / "tall.png"
    Image.open(image).rotate(180).save(other)
    assert main(["saliency", str(looked_at / "bundle"), str(image), str(other), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"tall", "tall_2"}
    assert f"{other}: drawn in {out / 'tall_2'}" in capsys.readouterr().out


def test_the_colour_is_full_where_the_map_is_largest_and_unseen_parts_are_darker():
    pixels = np.full((4, 4), 100, np.uint8)
    map_HW = np.zeros((4, 4), np.float32)
    map_HW[1, 2], map_HW[0] = 2.0, np.nan
    seen = overlay(pixels, map_HW, top=2.0)
    assert (seen[0] == 50).all() and (seen[2] == 100).all()
    assert seen[1, 2].tolist() != [100, 100, 100]
    faint = overlay(pixels, map_HW, top=200.0)
    assert np.abs(faint[1, 2].astype(int) - 100).max() < 3
    np.testing.assert_array_equal(overlay(pixels, np.zeros((4, 4)), top=0.0), np.full((4, 4, 3), 100))


def test_the_report_scores_the_maps_against_what_was_drawn(looked_at):
    study = Study.open(looked_at / "runs" / "squares")
    result = study.analyze(["saliency"])
    assert result.failed == {}
    table = pd.read_csv(study.folder.analysis / "saliency.csv")
    assert list(table.columns[:6]) == ["setting", "metric", "label", "value", "low", "high"]
    assert {*BASELINES, CEILING, "zero-shot", "paper", "study"} == set(table["setting"])
    drawn = {*SALIENCY_METRICS, AREA, ABOVE_ATLAS, OTHERS, ABOVE_OTHERS, USUAL, "deletion", "insertion"}
    assert set(table["metric"]) == drawn | OF_SIDES  # the sample says sides
    assert table["value"].between(-1, 1).all()
    assert (table["low"].isna() | (table["low"] <= table["value"])).all()
    finer = table[(table["method"] == "layercam, 3 x 3 positions") & (table["label"] == ALL)]
    assert set(finer["metric"]) == {*SALIENCY_METRICS, AREA, ABOVE_ATLAS}
    assert (
        "where the model looks:" in result.text
        and "Fewer than 10 test patients have regions of" in result.text
    )
    page = result.report.read_text()
    assert "Where the model looks" in page and "rank correlation" in page
    nothing = "zero-shot, at the layer of the publication: layer blocks.3.attn: the gradient of"
    assert nothing in page
    for figure in ("saliency_maps", "saliency_sanity"):
        assert (study.folder.analysis / "figures" / f"{figure}.png").exists()


@pytest.mark.slow
def test_where_a_licence_forbids_it_no_image_is_in_the_report(looked_at):
    study = Study.open(looked_at / "runs" / "squares", ["analysis.images=none"])
    for name in ("saliency_maps", "overlay_images"):
        (study.folder.analysis / "figures" / f"{name}.png").unlink(missing_ok=True)
    result = study.analyze(["saliency", "overlay", "label_audit"])
    assert result.failed == {}
    shown = {path.stem for path in (study.folder.analysis / "figures").iterdir()}
    assert "overlay" in shown and "saliency_sanity" in shown
    assert not shown & {"saliency_maps", "overlay_images"}
    assert "<image" not in result.report.read_text()
    assert "as `analysis.images: none` wants it" in result.report.read_text()


@pytest.mark.slow
def test_any_image_can_be_asked_for(looked_at, capsys):
    run = str(looked_at / "runs" / "squares")
    cohort = Cohort.open(looked_at / "cohort")
    place = cohort.indices("train")[0]
    image = cohort.images()[place]
    assert main(["analyze", run, "--only", "saliency", "--image", image]) == 0
    folder = looked_at / "runs" / "squares" / "analysis"
    assert (folder / "figures" / f"saliency_{place}.png").exists()
    assert "The models have seen it: it is of train" in (folder / "report.html").read_text()
    capsys.readouterr()
    assert main(["analyze", run, "--only", "saliency", "--image", "nobody"]) == 2
    error = capsys.readouterr().err
    assert "no image 'nobody' in" in error and error.count("\n") == 1
    with pytest.raises(InputError, match=r"analysis\.looked_at"):
        Study.open(run, ["analysis.looked_at=[nobody]"]).analyze(["saliency"])


def test_organs_alone_are_scored_apart_from_findings(looked_at):
    """Every image has its lungs, and no finding is annotated."""
    away = looked_at / "cohort" / "annotations.parquet"
    away.rename(looked_at / "away")
    try:
        cohort = Cohort.open(looked_at / "cohort")
        lungs = np.zeros((64, 64), dtype=bool)
        lungs[16:48, 8:56] = True
        regions = [
            mask_region(image, "", "", lungs, organ="lungs", drawn_by="people") for image in cohort.images()
        ]
        write_annotations(cohort.folder, regions)
        study = Study.open(looked_at / "runs" / "squares")
        result = study.analyze(["saliency"])
        table = pd.read_csv(study.folder.analysis / "saliency_organs.csv")
    finally:
        (looked_at / "away").replace(away)
    assert result.failed == {} and set(table["organ"]) == {"lungs"}
    assert table.loc[table["metric"] == AREA, "value"].to_numpy() == pytest.approx(32 * 48 / 64**2)
    assert "No Finding" in set(table["label"])  # an organ is of every label
    page = result.report.read_text()
    assert "Inside the lungs" in page and "as people drew" in page
    assert "lies inside the lungs" in result.text


def test_sides_alone_are_scored_where_nobody_drew(looked_at):
    away = looked_at / "cohort" / "annotations.parquet"
    away.rename(looked_at / "away")
    try:
        study = Study.open(looked_at / "runs" / "squares")
        result = study.analyze(["saliency"])
        table = pd.read_csv(study.folder.analysis / "saliency.csv")
    finally:
        (looked_at / "away").rename(away)
    assert result.failed == {} and set(table["metric"]) <= OF_SIDES
    assert set(table["setting"]) == {"zero-shot", "paper", "study", "atlas"}
    assert "No finding is annotated on the test images" in result.report.read_text()


def test_a_finer_map_has_the_images_own_pixels(looked_at):
    maps = []
    for shifts in ("1", "2"):
        out = looked_at / f"positions-{shifts}"
        words = ["--labels", "Cardiomegaly", "--shifts", shifts, "--out", str(out)]
        assert main(["saliency", str(looked_at / "bundle"), str(looked_at / "tall.png"), *words]) == 0
        maps.append(np.load(out / "tall" / "Cardiomegaly.npy"))
    coarse, fine = maps
    assert fine.shape == coarse.shape and np.isfinite(fine[16:80]).all()
    assert np.nanmax(np.abs(fine - coarse)) > 0


@pytest.mark.slow
def test_an_answer_that_depends_on_nothing_has_no_maps_and_says_so(looked_at):
    study = Study.open(looked_at / "runs" / "squares")
    models = study.models(study.judgement())
    best = models.best
    heads = tuple(replace(head, weight_DC=np.zeros_like(head.weight_DC)) for head in best.heads)
    dead = replace(best, heads=heads)
    openers = {**models.openers, models.judgement.best: lambda: dead}
    section = saliency.run(replace(models, openers=openers, _opened={}))
    (said,) = section.parts
    assert "There are no maps: " in said.text and "zero throughout" in said.text
    assert section.tables == {}
