"""A bundle in MLflow's registry: loaded, asked and served."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cohort.errors import InputError
from cohort.manifest import Cohort
from study.cli import main
from study.registered_model import CODE, CODE_ROOMS, REQUIREMENTS, registered_name
from tests.conftest import REPOSITORY
from tests.study.conftest import LABELS
from tests.study.test_tracking import free_port
from tests.test_architecture import rooms_of
from vlm.bundle import Bundle

TARGET = "squares@champion"


@pytest.fixture(scope="module")
def registered(studied, tmp_path_factory):
    """The study, its bundle, and two of its images as base64; registered as `TARGET`."""
    study, _ = studied
    out = tmp_path_factory.mktemp("exported") / "bundle"
    assert main(["export", str(study.folder.path), "--out", str(out), "--register", TARGET]) == 0
    images = [Cohort.open(study.config.cohort).images_root / f"{i:03d}.png" for i in (0, 7)]
    return study, out, images, [base64.b64encode(image.read_bytes()).decode() for image in images]


@pytest.fixture
def store(registered):
    """MLflow's own functions look into the study's store."""
    study, *_ = registered
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(study.config.tracking.uri)
    yield study.config.tracking.uri
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("squares@v2", r"aliases latest and v<number> for itself; give another, such as squares@champion"),
        ("squares@V10", "for itself"),
        ("squares@latest", "for itself"),
        ("squares", "must be NAME@alias"),
        ("@champion", "must be NAME@alias"),
        ("squares@", "must be NAME@alias"),
        ("squares@two words", "must be NAME@alias"),
        ("a/b@champion", "a name without / and :"),
    ],
)
def test_a_target_that_mlflow_would_refuse_is_refused_in_one_line(text, rule):
    with pytest.raises(InputError, match=rule) as refused:
        registered_name(text)
    assert str(refused.value).startswith(f"--register {text}: ") and "\n" not in str(refused.value)


def test_a_name_may_hold_an_at_and_an_alias_begin_with_v():
    assert registered_name("ann@lab@vital") == ("ann@lab", "vital")


def test_a_refused_target_leaves_no_bundle_and_opens_no_test_split(studied, tmp_path, capsys):
    study, _ = studied
    before = study.folder.test_access_file.read_text() if study.folder.test_access_file.exists() else ""
    out = tmp_path / "bundle"
    assert main(["export", str(study.folder.path), "--out", str(out), "--register", "squares@v1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not out.exists()
    after = study.folder.test_access_file.read_text() if study.folder.test_access_file.exists() else ""
    assert after == before


def test_the_model_stands_under_its_study_which_stays_as_it_was(registered, store):
    study, *_ = registered
    client = MlflowClient(store)
    run = client.get_run(study.folder.mlflow_run_file.read_text().strip())
    version = client.get_model_version_by_alias("squares", "champion")
    assert version.run_id == run.info.run_id and run.info.status == "FINISHED"
    place = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    assert place.startswith(f"{(study.folder.path.parents[1] / 'mlartifacts').as_uri()}/")


def test_a_loaded_model_answers_as_the_bundle_does(registered, store):
    _, out, images, encoded = registered
    model = mlflow.pyfunc.load_model(f"models:/{TARGET}")
    answer = model.predict(pd.DataFrame({"image": encoded}))
    expected = Bundle.load(out, "cpu").predict(images).to_pandas().drop(columns="image")
    pd.testing.assert_frame_equal(answer, expected, check_dtype=False)
    assert [one.name for one in model.metadata.signature.outputs] == list(answer.columns)
    assert list(answer.columns) == [
        f"{what}.{label}" for what in ("probability", "decision") for label in LABELS
    ]


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("no base64", "image 0: must be the base64 of an image file"),
        (base64.b64encode(b"GIF89a").decode(), "image 0: unreadable image"),
    ],
)
def test_what_is_no_image_is_refused_with_its_place(registered, store, image, why):
    model = mlflow.pyfunc.load_model(f"models:/{TARGET}")
    with pytest.raises(MlflowException, match=why):
        model.predict(pd.DataFrame({"image": [image]}))


def test_registering_again_moves_the_alias_to_the_new_version_in_silence(registered, store, capfd):
    study, out, *_ = registered
    before = int(MlflowClient(store).get_model_version_by_alias("squares", "champion").version)
    assert study.register(out, TARGET) == str(before + 1)
    assert capfd.readouterr() == ("", "")
    version = MlflowClient(store).get_model_version_by_alias("squares", "champion")
    assert int(version.version) == before + 1


def test_where_the_study_s_run_was_deleted_the_line_says_how_it_is_sent_anew(registered, store):
    study, out, *_ = registered
    client, parent = MlflowClient(store), study.folder.mlflow_run_file.read_text().strip()
    client.delete_run(parent)
    try:
        with pytest.raises(InputError, match=r"run was deleted; `radtune sync .*/squares` sends it anew"):
            study.register(out, TARGET)
    finally:
        client.restore_run(parent)


def test_what_travels_imports_nothing_that_stays_behind():
    assert rooms_of(CODE) & {"study", "analysis", "trainables", "search_spaces", "sample"} == set()
    modules = {"PIL": "Pillow", "sklearn": "scikit-learn", "iterstrat": "iterative-stratification"}
    modules |= {"yaml": "PyYAML", "open_clip": "open_clip_torch", "imagehash": "ImageHash"}
    ours = {*CODE_ROOMS, *sys.stdlib_module_names}
    # No bundle predicts with these.
    unused = {REPOSITORY / "vlm" / "saliency", REPOSITORY / "cohort" / "readers"}
    wanted = {
        modules.get(name, name)
        for path in [CODE, *(file for room in CODE_ROOMS for file in (REPOSITORY / room).rglob("*.py"))]
        if not unused & set(path.parents)
        for name in rooms_of(path) - ours
    }
    assert wanted - set(REQUIREMENTS) == set()


@pytest.mark.slow
def test_a_server_answers_base64_from_a_folder_without_radtune(registered, store, tmp_path):
    _, out, images, encoded = registered
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{TARGET}"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    # MLflow starts uvicorn by its name.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {"MLFLOW_TRACKING_URI": store, "PATH": path}
    environment.pop("PYTHONPATH", None)
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def asked(rows: list[str]) -> dict:
        table = {"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(table).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    try:
        deadline = time.monotonic() + 240
        while True:
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[
                -2000:
            ]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        answer = pd.DataFrame(asked(encoded)["predictions"])
        expected = Bundle.load(out, "cpu").predict(images).to_pandas().drop(columns="image")
        pd.testing.assert_frame_equal(answer, expected, check_dtype=False)
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(["no base64"])
        assert refused.value.code == 400 and "image 0: must be the base64" in refused.value.read().decode()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
