"""A whole study in a folder whose name a URI or a shell reads as something else."""

import os
import shlex

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from study import Study
from study.cli import main
from study.command import shown_command
from tests.study.conftest import settings, square_cohort

NAMES = ["a b", "a%20b", "ex#h", "q?x", "ö", "it's"]


def test_a_command_is_printed_as_a_shell_wants_it():
    assert shown_command("sync", "runs/a b") == "radtune sync 'runs/a b'"
    assert shlex.split(shown_command("sync", "it's"))[2] == "it's"


def commands(said: str) -> list[list[str]]:
    """The words of every `next: radtune ...` that was printed, as a shell reads them."""
    lines = [line.removeprefix("next: ") for line in said.splitlines() if line.startswith("next: ")]
    return [shlex.split(line.partition("    (")[0])[1:] for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_ray")
@pytest.mark.parametrize("name", NAMES)
def test_a_study_runs_is_exported_registered_and_sent_again(
    tmp_path, tmp_path_factory, name, monkeypatch, capsys
):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    square_cohort(folder / "cohort")
    given = settings(folder, configurations=8) | {"tracking": {"uri": "sqlite:///mlflow.db"}}
    for key in ("cohort", "storage", "cache"):
        given[key] = os.path.relpath(given[key])
    given["analysis"] = {"top": 1, "bootstrap": 200, "sections": ["scores"]}
    (folder / "s.yaml").write_text(yaml.safe_dump(given))
    assert main(["run", "s.yaml"]) == 0
    (analyze,) = commands(capsys.readouterr().out)
    assert main(["show", os.path.abspath("runs/squares")]) == 0
    assert commands(capsys.readouterr().out) == [["analyze", str(folder / "runs" / "squares")]]
    assert main(analyze) == 0
    (export,) = commands(capsys.readouterr().out)
    out = str(folder / "exports" / "squares")
    assert export[-1] == "exports/squares"
    assert main([*export[:-1], out, "--register", "squares@champion"]) == 0
    (predict,) = commands(capsys.readouterr().out)
    image = folder / "cohort-images" / "000.png"
    assert main([*predict[:-1], str(image), "--out", "p.csv"]) == 0
    assert pd.read_csv("p.csv")["image"].tolist() == [str(image)]
    for what in ("cohort", "runs/squares", "exports/squares", "cache"):
        assert main(["verify", what]) == 0
    assert main(["sync", "runs/squares"]) == 0

    study = Study.open("runs/squares")
    client = MlflowClient(study.config.tracking.uri)
    run = client.get_run(study.folder.mlflow_run_file.read_text().strip())
    kept = [one.path for one in client.list_artifacts(run.info.run_id, "analysis")]
    assert "analysis/report.html" in kept
    assert (folder / "mlartifacts" / run.info.run_id / "artifacts" / "analysis" / "report.html").exists()
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(study.config.tracking.uri)
    try:
        # MLflow 3.17 reads its own local copy as a URI; of a folder with % in its name it needs another one.
        loaded = str(tmp_path_factory.mktemp("loaded"))
        model = mlflow.pyfunc.load_model("models:/squares@champion", dst_path=loaded)
    finally:
        mlflow.set_tracking_uri(before)
    assert len(model.metadata.signature.outputs) == 6
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing lands beside it
