"""Tests of the command line: what a person types, reads, and is told when something is wrong."""

import os
import re
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from analysis.judging.sections import claims, scores
from cohort.manifest import Cohort
from cohort.readers import READERS
from study import Study
from study.cli import main
from tests.conftest import REPOSITORY
from tests.study.conftest import settings


def refused(capsys, *argv):
    """The one line of a refusal."""
    assert main([str(word) for word in argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("radtune: error: ") and error.count("\n") == 1, error
    return error


@pytest.fixture
def table(tmp_path, studied):
    """A CSV of the squares' images and labels, and the folder of the images."""
    cohort = Cohort.open(studied[0].config.cohort)
    frame = pd.DataFrame({"scan": cohort.column("file"), "person": cohort.column("patient")})
    for c, label in enumerate(cohort.labels):
        frame[label] = cohort.targets_NC()[:, c].astype(int)
    path = tmp_path / "labels.csv"
    frame.to_csv(path, index=False)
    return path, cohort.images_root


def test_help_names_every_command_and_shows_an_example(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for command in (
        "cohort",
        "embed",
        "run",
        "space",
        "show",
        "analyze",
        "export",
        "predict",
        "verify",
        "ui",
    ):
        assert f"    {command} " in text
    assert "radtune run configs/sample_probe.yaml" in text


def test_the_help_of_analyze_shows_how_the_longest_sections_are_left_out(capsys):
    with pytest.raises(SystemExit):
        main(["analyze", "--help"])
    assert "radtune analyze runs/sample-probe --skip overlay" in capsys.readouterr().out


def test_help_imports_nothing_of_weight():
    heavy = "torch", "ray", "mlflow", "optuna", "pandas", "pyarrow", "numpy", "pydantic"
    code = "import atexit, sys; from study.cli import main; "
    code += f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules])); main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.startswith("usage: radtune")
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_space_prints_what_a_study_searches_without_anything_of_weight():
    heavy = "torch", "ray", "mlflow", "optuna", "pandas", "numpy", "pydantic"
    code = "import sys; from study.cli import main; main(['space', 'linear_probe']); "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]", done.stdout + done.stderr
    assert any(line.split() == ["learning_rate", "0.0001", "to", "0.5", "log"] for line in lines)
    assert "preset paper:" in lines


def test_every_reader_is_a_command_with_its_example(capsys):
    with pytest.raises(SystemExit):
        main(["cohort", "--help"])
    listed = capsys.readouterr().out
    for command in ("sample", "iu-xray", "table", "show"):
        assert f"    {command} " in listed
    for name in READERS:
        command = name.replace("_", "-")
        with pytest.raises(SystemExit) as exit_:
            main(["cohort", command, "--help"])
        assert exit_.value.code == 0
        text = capsys.readouterr().out
        assert f"radtune cohort {command} " in text and ("--licence" in text or name == "dicom")


def test_it_runs_from_an_uninstalled_checkout(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # -S keeps the editable installation's .pth file from being read; --help needs the standard library only.
    command = [sys.executable, "-S", "-m", "study", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: radtune" in done.stdout


def test_a_table_becomes_a_cohort_that_show_describes(table, tmp_path, capsys):
    path, images = table
    out = tmp_path / "cohort"
    words = ["cohort", "table", "--table", path, "--images", images, "--image-column", "scan"]
    words += ["--patient-column", "person", "--labels", "Bright,Left,Rare", "--out", out]
    assert main([str(word) for word in words]) == 0
    built = capsys.readouterr().out
    assert main(["cohort", "show", str(out)]) == 0
    assert capsys.readouterr().out == built
    assert "160" in built and "Bright" in built


def test_a_contact_sheet_is_written_beside_what_is_shown(studied, tmp_path, capsys):
    folder = studied[0].config.cohort
    assert main(["cohort", "show", folder, "--contact-sheet", str(tmp_path / "new" / "sheet.png")]) == 0
    assert capsys.readouterr().out.endswith(f"contact sheet: {tmp_path / 'new' / 'sheet.png'}\n")
    assert Image.open(tmp_path / "new" / "sheet.png").size == (8 * 134 + 6, 4 * 170 + 6)
    assert "must be a .png or .jpg" in refused(capsys, "cohort", "show", folder, "--contact-sheet", "sheet")


def test_uncertain_rules_per_label_reach_the_policy(table, tmp_path):
    path, images = table
    out = tmp_path / "cohort"
    words = ["cohort", "table", "--table", path, "--images", images, "--image-column", "scan"]
    words += ["--labels", "Bright,Left,Rare", "--uncertain", "Left=ones,Rare=zeros", "--out", out]
    assert main([str(word) for word in words]) == 0
    assert Cohort.open(out).policy.uncertain == {"Left": "ones", "Rare": "zeros"}


def test_a_table_is_read_beside_a_file_whose_name_is_no_text(table, tmp_path, capsys):
    path, images = table
    copied = shutil.copytree(images, tmp_path / "images")
    with open(os.fsdecode(bytes(copied) + b"/\xff.png"), "wb") as file:
        file.write(b"")
    words = ["cohort", "table", "--table", path, "--images", copied, "--image-column", "scan"]
    assert main([str(word) for word in [*words, "--labels", "Bright", "--out", tmp_path / "cohort"]]) == 0
    assert len(Cohort.open(tmp_path / "cohort").images()) == 160


def test_what_the_images_are_and_their_licence_are_shown(table, tmp_path, capsys):
    path, images = table
    words = ["cohort", "table", "--table", path, "--images", images, "--image-column", "scan", "--labels"]
    words += ["Bright", "--modality", "fundus", "--licence", "CC BY 4.0", "--out", tmp_path / "cohort"]
    assert main([str(word) for word in words]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:8]]
    assert ["modality", "fundus"] in lines and ["licence", "CC BY 4.0"] in lines


def test_a_study_of_a_cohort_without_training_images_is_refused(table, tmp_path, capsys):
    path, images = table
    frame = pd.read_csv(path).assign(side="test")
    frame.to_csv(path, index=False)
    words = ["cohort", "table", "--table", path, "--images", images, "--image-column", "scan", "--labels"]
    words += ["Bright", "--split-column", "side", "--out", tmp_path / "cohort"]
    assert main([str(word) for word in words]) == 0
    capsys.readouterr()
    study_file = tmp_path / "study.yaml"
    study_file.write_text(yaml.safe_dump(settings(tmp_path) | {"cohort": str(tmp_path / "cohort")}))
    assert "this cohort has no split 'train', only test" in refused(capsys, "run", study_file)


def test_show_lists_the_best_against_the_paper_and_the_baseline(studied, capsys):
    study, _ = studied
    assert main(["show", str(study.folder.path)]) == 0
    text = capsys.readouterr().out
    assert "squares: finished, 24/24 configurations" in text
    assert f"(#{study.best.number})" in text and "logreg" in text and "final model: " in text


def test_embed_finds_what_the_study_has_computed(studied, capsys):
    study, _ = studied
    assert main(["embed", study.config.cohort, "--encoder", "pixels", "--cache", study.config.cache]) == 0
    assert "160 x 1024 features of pixels, fp32, from the cache" in capsys.readouterr().out


def readings_of_the_test_split(study):
    client = MlflowClient(study.config.tracking.uri)
    parent = client.get_run((study.folder.path / "mlflow_run_id").read_text().strip())
    assert parent.info.status == "FINISHED"
    return sum(map(bool, parent.data.tags.get("radtune.test_access", "").split("; ")))


def test_analyze_export_and_predict_agree_to_the_last_digit_that_is_printed(studied, tmp_path, capsys):
    study, _ = studied
    run = str(study.folder.path)
    record = study.folder.test_access_file
    before = len(record.read_text().splitlines()) if record.exists() else 0
    assert main(["analyze", run, "--skip", "overlay,saliency"]) == 0
    assert len(record.read_text().splitlines()) == before + 1 == readings_of_the_test_split(study)
    text = capsys.readouterr().out
    for setting in (
        "prevalence",
        "random",
        "all-positive",
        "pixels",
        "logreg",
        "paper",
        "best-1",
        "split-best",
    ):
        assert setting in text
    assert re.search(r"^study +0\.\d", text, re.MULTILINE)
    assert (study.folder.analysis / "report.html").stat().st_size > 10_000

    bundle, out = tmp_path / "bundle", tmp_path / "predictions.csv"
    assert main(["export", run, "--out", str(bundle)]) == 0
    assert "Scores on the test split" in (bundle / "README.md").read_text()
    reported = pd.read_parquet(study.folder.analysis / "test_predictions.parquet")
    reported = reported[reported["setting"] == "study"]
    cohort = Cohort.open(study.config.cohort)
    files = dict(zip(cohort.column("image"), cohort.column("file"), strict=True))
    images = [str(cohort.images_root / files[image]) for image in reported["image"]]
    assert main(["predict", str(bundle), *images, "--out", str(out)]) == 0
    predicted = pd.read_csv(out)
    for label in cohort.labels:
        np.testing.assert_allclose(
            predicted[f"probability.{label}"], reported[f"probability.{label}"], atol=6e-7, rtol=0
        )
        assert (predicted[f"decision.{label}"].to_numpy() == reported[f"decision.{label}"].to_numpy()).all()


def test_several_studies_are_analysed_one_after_the_other_with_what_is_set_for_it(studied, tmp_path, capsys):
    study, _ = studied
    run = str(study.folder.path)
    assert study.config.analysis.top == 2
    command = ["analyze", str(tmp_path), run, "--only", "scores", "--set", "analysis.top=1"]
    assert main(command) == 2
    said = capsys.readouterr()
    assert "best-1" in said.out and "best-2" not in said.out
    assert f"{tmp_path}: no study there" in said.err and "1 of 2 studies were not analysed" in said.err


def test_a_part_of_an_analysis_joins_the_rest_and_sections_can_be_skipped(studied, capsys):
    study, _ = studied
    command = ["analyze", str(study.folder.path), "--set", "analysis.bootstrap=150", "--only"]
    assert main([*command, "scores"]) == 0
    assert main([*command, "claims,limits", "--skip", "limits"]) == 0
    html = study.folder.report.read_text()
    assert html.count("<section>") == 2 and html.index(scores.TITLE) < html.index(claims.TITLE)
    assert "Skipped when this report was written: limits." in capsys.readouterr().out
    assert "no section 'luck'" in refused(capsys, "analyze", study.folder.path, "--skip", "luck")


def test_what_an_analysis_compares_with_is_set_from_where_the_command_is_given(studied, monkeypatch):
    study, _ = studied
    monkeypatch.chdir(study.folder.path.parent)
    opened = Study.open("squares", ["analysis.compare_with=other", "analysis.top=5"])
    assert opened.config.analysis.compare_with == str(study.folder.path.parent / "other")
    assert opened.config.analysis.top == 5
    assert Study.open("squares").config.analysis == study.config.analysis  # set for the one object alone


def test_what_is_wrong_is_said_in_one_line(studied, table, tmp_path, capsys):
    study, _ = studied
    path, images = table
    run = study.folder.path
    reading = ["cohort", "table", "--table", path, "--images", images, "--out", tmp_path / "c"]
    assert "no cohort there" in refused(capsys, "cohort", "show", tmp_path)
    assert "'scn'" in refused(capsys, *reading, "--image-column", "scn", "--labels", "Bright")
    assert "'Brigt'" in refused(capsys, *reading, "--image-column", "scan", "--labels", "Brigt")
    assert "no such study file" in refused(capsys, "run", tmp_path / "none.yaml")
    assert "no study there" in refused(capsys, "show", tmp_path)
    assert "no study there" in refused(capsys, "analyze", tmp_path)
    refusal = refused(capsys, "export", run, "--out", tmp_path / "b", "--trial", "999")
    assert "trial 999 is not of this study, whose trials are numbered 0 to 23; those that" in refusal
    assert "only those of analysis" in refused(capsys, "analyze", run, "--set", "search.seed=3")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert "thesis.tex" in refused(capsys, "export", run, "--out", tmp_path / "full")
    assert "no MLflow store there" in refused(capsys, "ui", "--uri", f"sqlite:///{tmp_path}/none.db")


def test_a_study_and_its_result_show_themselves_in_a_notebook(studied):
    study, _ = studied
    assert repr(study) == (
        f"Study(squares: linear_probe of pixels on {study.config.cohort}, {study.folder.path})"
    )
    best = study.best
    html = study._repr_html_()
    assert "24 of 24 configurations</caption>" in html
    assert f"<td>{best.number}</td><td>{best.preset}</td><td>{best.objective:.3f}</td><td>" in html
    assert html.count("<tr>") == 1 + 8


# Files of predictions, and disks without room


@pytest.fixture
def bundle(studied, tmp_path):
    """A bundle of the study, and the folder of the cohort's images."""
    study, _ = studied
    return study.export(tmp_path / "bundle"), Cohort.open(study.config.cohort).images_root


def test_a_bundle_is_loaded_from_python_as_its_card_says(bundle, monkeypatch):
    folder, images = bundle
    (folder / "scan.png").write_bytes((images / "000.png").read_bytes())
    monkeypatch.chdir(folder)
    (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(snippet, names)
    assert names["predictions"]["image"].tolist() == ["scan.png"]
    assert names["predictions"]["probability.Bright"].between(0, 1).all()


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_predicted(
    bundle, tmp_path, capsys, monkeypatch
):
    folder, images = bundle
    monkeypatch.setattr("vlm.bundle.Bundle.load", lambda *_: pytest.fail("the work began"))
    predict = "predict", folder, images, "--out"
    assert "no folder" in refused(capsys, *predict, tmp_path / "none" / "x.csv")
    assert "must be a file" in refused(capsys, *predict, tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "may not be written to" in refused(capsys, *predict, tmp_path / "x.csv")


def test_folders_and_patterns_are_searched_for_images(bundle, tmp_path, capsys):
    folder, images = bundle
    (tmp_path / "scans" / "deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.png", "a.PNG", "notes.txt"):
        (tmp_path / "scans" / name).write_bytes((images / "000.png").read_bytes())
    out = tmp_path / "out.csv"
    assert (
        main(["predict", str(folder), str(tmp_path / "scans"), f"{images}/00[01].png", "--out", str(out)])
        == 0
    )
    named = [f"{tmp_path}/scans/{name}" for name in ("a.PNG", "b.png", "deep/a.png")]
    assert pd.read_csv(out)["image"].tolist() == [*named, f"{images}/000.png", f"{images}/001.png"]
    (tmp_path / "empty").mkdir()
    assert "no image there" in refused(capsys, "predict", folder, tmp_path / "empty")
    assert "no image there" in refused(capsys, "predict", folder, tmp_path / "*.gif")
    stored, typed = (tmp_path / f"{unicodedata.normalize(form, 'Müller')}.png" for form in ("NFD", "NFC"))
    stored.write_bytes((images / "000.png").read_bytes())
    assert main(["predict", str(folder), str(typed), "--out", str(out)]) == 0
    assert pd.read_csv(out)["image"].tolist() == [str(stored)]


def test_a_file_whose_name_is_no_text_is_predicted_with_the_others(bundle, tmp_path, capfdbinary):
    folder, images = bundle
    scans = tmp_path / "scans"
    scans.mkdir()
    strange = os.fsdecode(bytes(scans) + b"/\xff.png")
    for path in (scans / "a.png", strange):
        with open(path, "wb") as file:
            file.write((images / "000.png").read_bytes())
    out = tmp_path / "out.csv"
    assert main(["predict", str(folder), str(scans), "--out", str(out)]) == 0
    assert pd.read_csv(out)["image"].tolist() == [f"{scans}/a.png", f"{scans}/\\xff.png"]
    assert main(["predict", str(folder), strange]) == 0
    assert f"{scans}/\\xff.png,".encode() in capfdbinary.readouterr().out
    with open(strange, "wb") as file:
        file.write(b"cut")
    assert main(["predict", str(folder), str(scans), "--skip-unreadable", "--out", str(out)]) == 0
    assert "\\xff.png" in pd.read_csv(out)["unreadable"][1]
    assert main(["predict", str(folder), str(scans)]) == 2


def test_decisions_stay_whole_numbers_beside_unreadable_images(bundle, tmp_path, capsys):
    folder, images = bundle
    (tmp_path / "cut.png").write_bytes(b"cut")
    words = ["predict", folder, images / "000.png", tmp_path / "cut.png", "--skip-unreadable"]
    assert main([str(word) for word in words]) == 0
    lines = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    column = lines[0].index("decision.Bright")
    assert lines[1][column] in ("0", "1") and lines[2][column] == ""


def test_a_full_disk_is_one_line_and_nothing_half_written_stays(studied, bundle, tiny_disk, tmp_path, capsys):
    study, _ = studied
    folder, images = bundle
    disk = tiny_disk(4096)

    def full(*argv):
        error = refused(capsys, *argv)
        assert str(disk) in error and "No space left on device; make room there" in error
        return sorted(path.relative_to(disk).as_posix() for path in disk.rglob("*") if path.is_file())

    assert full("export", study.folder.path, "--out", disk / "bundle") == []
    assert full("predict", folder, images, "--out", disk / "x.csv") == []
    left = full("embed", study.config.cohort, "--encoder", "pixels", "--cache", disk / "cache")
    assert {path.split("/")[-1] for path in left} == {"lock"}


def test_a_full_disk_is_found_while_features_are_written_too(studied, tiny_disk, capsys):
    """There is room for the images, 160 x 32 x 32, and none for their features."""
    study, _ = studied
    disk = tiny_disk(200_000)
    error = refused(capsys, "embed", study.config.cohort, "--encoder", "pixels", "--cache", disk / "cache")
    assert "No space left on device" in error and str(disk) in error
    assert not [path for path in disk.rglob("*") if path.suffix in (".tmp", ".arrow")]


def test_what_cannot_be_printed_is_one_line():
    command = [sys.executable, "-m", "study", "space", "linear_probe"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("radtune: error: standard output: No space left on device")
    assert done.stderr.count("\n") == 1


def test_a_study_that_nobody_reads_any_more_stops_as_after_ctrl_c():
    """`radtune run ... | head -2`: what is raised is no error to Ray, and nothing is printed at the end."""
    code = "import study.cli as c, study.study as s, sys\n"
    code += "class Endless:\n"
    code += "  def run(self, resume, echo):\n    while True: echo('a line')\n"
    code += "s.Study.from_yaml = lambda *_: Endless()\nsys.exit(c.main(['run', 'x.yaml']))"
    command = f'{sys.executable} -c "$CODE" | head -2; exit ${{PIPESTATUS[0]}}'
    environment = os.environ | {"CODE": code}
    done = subprocess.run(
        ["bash", "-c", command], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "a line\na line\n")
    assert done.stderr.startswith("radtune: interrupted") and done.stderr.count("\n") == 1


def test_a_damaged_bank_file_is_named(studied, tmp_path, capsys):
    study, _ = studied
    bank = study.folder.bank_files()[1]
    whole = bank.read_bytes()
    bank.write_bytes(whole[: len(whole) // 2])
    try:
        assert bank.name in refused(capsys, "show", study.folder.path)
    finally:
        bank.write_bytes(whole)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="no such study file"):
        main(["run", str(tmp_path / "none.yaml"), "--debug"])


def test_a_study_file_names_its_typo(tmp_path, capsys):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path) | {"serach": {}}))
    assert "unknown key serach; did you mean search?" in refused(capsys, "run", path)
