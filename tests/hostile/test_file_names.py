"""Labels, studies and images that are called like paths, through every command that writes files by them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import figures
from analysis.page import section_html
from analysis.section import Folded, Picture, Section
from cohort.manifest import Cohort
from sample.phantoms import draw_cohort
from study import Study
from study.cli import main
from tests.study.conftest import settings

PATH = "../../../../../../PWNED"
LABELS = ("a/b", "a_b", PATH, "肺" * 90, "CON", ".", "A_B", "/etc/PWNED")


def files_below(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_figures_of_any_name_lie_side_by_side_in_the_reports_folder(tmp_path):
    folder = tmp_path / "1" / "2" / "3" / "4" / "5" / "6" / "7"
    parts = [Picture(name=label, figure=figures.new_figure(1, 1), alt="") for label in LABELS]
    html = section_html(Section(parts=[*parts[:3], Folded(title="more", parts=parts[3:])]), folder)
    drawn = files_below(tmp_path)
    assert {path.parent for path in drawn} == {folder / "figures"}
    assert len(drawn) == len(LABELS) == html.count("<svg ")


@pytest.mark.slow
def test_no_command_writes_outside_its_folder_whatever_labels_are_called(tmp_path, capsys):
    """`cohort table`, `run` with its analysis, `export`, `predict` and `saliency`."""
    deep = tmp_path.joinpath(*"12345678")
    drawn = draw_cohort(deep / "drawn", images=240, size=64)
    rng = np.random.default_rng(0)
    table = {"image": drawn.images(), "patient": drawn.column("patient")}
    table |= {label: rng.integers(0, 2, 240) for label in LABELS}
    pd.DataFrame(table).to_csv(deep / "table.csv", index=False)
    words = ["--table", str(deep / "table.csv"), "--images", str(deep / "drawn" / "images")]
    words += ["--image-column", "image", "--patient-column", "patient", "--labels", ",".join(LABELS)]
    assert main(["cohort", "table", *words, "--out", str(deep / "cohort"), "--allow-duplicates"]) == 0
    assert Cohort.open(deep / "cohort").labels == LABELS

    study = Study.from_dict(settings(deep, configurations=8) | {"encoder": "phantom-clip"})
    study.run(echo=str)
    result = study.analyze(["label_audit", "curves", "saliency", "overlay", "labels"])
    assert result.failed == {}
    audited = {path.name for path in (study.folder.analysis / "figures").glob("label_audit_*")}
    assert len(audited) == len(LABELS) and (study.folder.analysis / "label_audit.csv").exists()

    study.export(deep / "bundle")
    images = [deep / "images" / name / "CON.png" for name in ("a", "b")]
    for image in images:
        image.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(image)
    some = [str(image) for image in images]
    assert main(["predict", str(deep / "bundle"), *some, "--out", str(deep / "scores.csv")]) == 0
    assert main(["saliency", str(deep / "bundle"), *some, "--out", str(deep / "maps")]) == 0
    maps = files_below(deep / "maps")
    assert {path.parent.name for path in maps} == {"_CON", "_CON_2"}
    assert len(maps) == 2 * 2 * len(LABELS), capsys.readouterr().out

    assert files_below(tmp_path) == files_below(deep)
    assert not any("PWNED" in path.name and path.parent == deep for path in files_below(deep))
