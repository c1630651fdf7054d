"""Tests of the architecture: which room may import which, and where the packages come from."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ROOMS = ("cohort", "scoring", "vlm", "search_spaces", "trainables", "analysis", "study", "sample")

# What the order of the rooms does not say: the sample is drawn below the studies, and one command draws it.
NOT_BY_ORDER = {"sample": {"analysis", "study"}}
EXCEPT = {"study/cli_cohort.py": {"sample"}}


def imports(path: Path) -> set[str]:
    """Top-level names of every module that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room):
    closed = set(ROOMS[ROOMS.index(room) + 1 :]) | NOT_BY_ORDER.get(room, set())
    for path in (REPOSITORY / room).rglob("*.py"):
        name = path.relative_to(REPOSITORY).as_posix()
        assert not imports(path) & closed - EXCEPT.get(name, set()), name


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("torch", ("vlm/", "trainables/", "analysis/", "study/", "sample/train_clip.py")),
        ("ray", ("trainables/ray_trainables.py", "study/")),
        ("mlflow", ("study/tracking.py",)),
    ],
)
def test_a_heavy_library_stays_in_its_place(library, allowed):
    for room in ROOMS:
        for path in (REPOSITORY / room).rglob("*.py"):
            name = path.relative_to(REPOSITORY).as_posix()
            assert library not in imports(path) or name.startswith(allowed), name


def test_scoring_brings_nothing_but_numpy_and_scipy():
    modules = [f"scoring.{path.stem}" for path in sorted((REPOSITORY / "scoring").glob("*.py"))]
    heavy = {"torch", "pandas", "sklearn", "pyarrow", "ray"}
    code = f"import sys, {', '.join(modules)}; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("room", [*ROOMS, "cohort.readers", "vlm.encoders"])
def test_every_package_is_imported_from_this_repository(room):
    module = importlib.import_module(room)
    assert Path(module.__file__).is_relative_to(REPOSITORY)


def test_every_package_is_listed_for_installation():
    import tomllib

    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        path.parent.relative_to(REPOSITORY).as_posix().replace("/", ".")
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("__init__.py")
    }
    assert set(listed) == there
