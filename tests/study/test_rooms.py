"""A user's own `cohort.py` beside the study: radtune's packages are found all the same, or it is named."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from cohort.errors import InputError
from study.cluster import check_cluster
from study.config import Resources
from study.rooms import ROOMS, shadowing
from tests.conftest import REPOSITORY
from tests.study.conftest import settings, square_cohort


@pytest.fixture
def own_modules(tmp_path) -> Path:
    """A folder with files of the names of all packages but `study`, whose place the interpreter decides."""
    for room in ROOMS:
        if room != "study":
            (tmp_path / f"{room}.py").write_text("MINE = 1\n")
    return tmp_path


def run_in(folder: Path, *command: str, path: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_study_runs_beside_files_named_like_the_packages(own_modules):
    """With the console script and a real Ray, whose workers put the working directory first on the path."""
    square_cohort(own_modules / "cohort_folder", images=80)
    study = settings(own_modules, configurations=1) | {"cohort": "cohort_folder"}
    (own_modules / "mine.yaml").write_text(yaml.safe_dump(study))
    script = str(Path(sys.executable).with_name("radtune"))
    # An empty first entry, as in PYTHONPATH=$PYTHONPATH:..., puts the working directory first here as well.
    done = run_in(own_modules, script, "run", "mine.yaml", path=f"{os.pathsep}{REPOSITORY}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 COMPLETE" in done.stdout


def test_the_console_script_finds_its_command_beside_a_users_study(own_modules):
    (own_modules / "study.py").write_text("MINE = 1\n")
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["radtune"].split(":")
    code = f"from {module} import {function}; {function}(['space', 'linear_probe'])"
    done = run_in(own_modules, sys.executable, "-c", code, path=str(REPOSITORY))
    assert "learning_rate" in done.stdout, done.stderr


def test_in_a_notebook_too_the_packages_come_first_and_the_path_stays(own_modules):
    code = "import sys; before = [*sys.path]; from study import Study; import cohort.manifest; "
    code += "assert sys.path == before; print(cohort.__file__)"
    done = run_in(own_modules, sys.executable, "-c", code, path=str(REPOSITORY))
    assert done.stdout.strip() == str(REPOSITORY / "cohort" / "__init__.py"), done.stderr


def test_a_module_that_was_imported_before_is_named(own_modules):
    done = run_in(own_modules, sys.executable, "-c", "import cohort, study", path=str(REPOSITORY))
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {own_modules / 'cohort.py'} was imported as 'cohort'")


def test_a_shadowing_file_is_named_where_ray_runs_already(own_modules, monkeypatch):
    monkeypatch.chdir(own_modules)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with pytest.raises(InputError, match=r"cohort\.py: has the name of a package of radtune"):
        check_cluster(Resources())


def test_the_packages_do_not_shadow_themselves(tmp_path):
    assert shadowing(REPOSITORY) is None
    (tmp_path / "study").mkdir()
    assert shadowing(tmp_path) is None  # a folder of that name, without Python in it
    (tmp_path / "study.py").touch()
    assert shadowing(tmp_path) == tmp_path / "study.py"
