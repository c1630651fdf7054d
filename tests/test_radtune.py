"""`import radtune`: four names, light until one is asked for, and the packages of this repository."""

import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest

import radtune
from cohort.manifest import Cohort
from study.compare import compare_encoders
from study.study import Study
from tests.conftest import REPOSITORY
from vlm.bundle import Bundle


def python(code: str, cwd=REPOSITORY, **more) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_gives_a_study_a_cohort_a_bundle_and_a_comparison():
    assert (radtune.Study, radtune.Cohort, radtune.Bundle) == (Study, Cohort, Bundle)
    assert radtune.compare_encoders is compare_encoders
    assert dir(radtune) == ["Bundle", "Cohort", "Study", "__version__", "compare_encoders"]
    with pytest.raises(AttributeError, match="module 'radtune' has no attribute 'Stduy'"):
        radtune.Stduy  # noqa: B018


def test_it_is_light_until_something_is_asked_for():
    heavy = "torch", "ray", "mlflow", "optuna", "pandas", "pyarrow", "numpy", "pydantic"
    assert python(f"import sys, radtune; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_files_of_the_users_own_do_not_take_the_place_of_its_packages(tmp_path):
    for name in ("study", "cohort", "vlm", "analysis"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s own file')")
    code = f"import sys; sys.path.append({str(REPOSITORY)!r}); import radtune\n"
    code += "print(radtune.Cohort, radtune.Bundle, radtune.Study)"
    assert "vlm.bundle.Bundle" in python(code, cwd=tmp_path)


def test_the_version_is_the_packages_and_printed_without_anything_of_weight():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "cohort.version.VERSION"}
    assert radtune.__version__ == version("radtune")
    heavy = "torch", "ray", "mlflow", "optuna", "pandas", "pyarrow", "numpy", "pydantic"
    code = "import sys, atexit; from study.cli import main\n"
    code += f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules]))\nmain(['--version'])"
    assert python(code).splitlines() == [f"radtune {radtune.__version__}", "[]"]
