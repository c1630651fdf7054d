"""Tests of the architecture: which room may import which, what stays light, and where packages come from."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ROOMS = ("cohort", "scoring", "vlm", "search_spaces", "trainables", "analysis", "study", "sample")
"""In the order in which data flows; a room imports only rooms above it. `sample` is drawn with all of them
and imported by the command line alone."""
FILES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
NAMES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}


def imported(path: Path) -> set[str]:
    """Full names of every module that a file imports, inside functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def after_importing(modules: str, *libraries: str) -> list[str]:
    """Which of the libraries a fresh interpreter has loaded once it has imported these modules."""
    code = f"import sys, {modules}; print(*(m for m in {libraries} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("room", ROOMS[:-1])
def test_a_room_imports_only_rooms_above_it(room):
    below = set(ROOMS[ROOMS.index(room) + 1 :])
    for path in (REPOSITORY / room).rglob("*.py"):
        allowed = {"sample"} if path.name == "cli_cohort.py" else set()
        assert not rooms_of(path) & (below - allowed), path


def test_the_sample_stands_on_the_rooms_but_not_on_the_conductor():
    for path in (REPOSITORY / "sample").rglob("*.py"):
        assert not rooms_of(path) & {"analysis", "study"}, path


def test_no_two_files_import_each_other_even_by_a_detour():
    follows = {
        path: {NAMES[name] for name in imported(path) if name in NAMES and NAMES[name] != path}
        for path in FILES
    }

    def reached(start: Path) -> set[Path]:
        seen, todo = set(), list(follows[start])
        while todo:
            if (path := todo.pop()) not in seen:
                seen.add(path)
                todo += follows[path]
        return seen

    assert [str(path) for path in FILES if path in reached(path)] == []


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("torch", ("vlm/", "trainables/", "study/", "sample/")),
        ("ray", ("trainables/ray_trainables.py", "study/")),
        ("optuna", ("study/", "search_spaces/parameters.py")),
        (
            "mlflow",
            (
                "study/mlflow_store.py",
                "study/mlflow_experiment.py",
                "study/study_runs.py",
                "study/tracked_analysis.py",
                "study/registered_model.py",
                "study/served_bundle.py",
            ),
        ),
        ("matplotlib", ("analysis/",)),
        ("open_clip", ("vlm/towers/", "vlm/encoders/", "sample/train_clip.py")),
        ("timm", ("vlm/towers/", "vlm/encoders/")),
    ],
)
def test_a_heavy_library_stays_in_its_place(library, allowed):
    for path in FILES:
        name = path.relative_to(REPOSITORY).as_posix()
        assert library not in rooms_of(path) or name.startswith(allowed), name


def test_an_analysis_reaches_no_ray_no_optuna_and_no_mlflow_by_any_detour():
    modules = ", ".join(name for name in NAMES if name.startswith("analysis"))
    assert after_importing(f"study.inputs, {modules}", "ray", "optuna", "mlflow") == []


def test_judging_reaches_no_encoder_and_no_torch_by_any_detour():
    judging = [name for name in NAMES if name.startswith("analysis.judging")]
    modules = ", ".join([*judging, "analysis.analyze", "analysis.model_card", "study.study"])
    assert after_importing(modules, "torch", "sklearn", "open_clip", "timm", "vlm.encoders") == []


def test_a_study_reaches_no_analysis_while_it_trains():
    """But for how numbers are written."""
    modules = "study.driver, study.linear_probe, study.fine_tune, trainables.ray_trainables"
    judged = [name for name in NAMES if name.startswith(("analysis.judging", "analysis.inside"))]
    assert after_importing(modules, *judged, "matplotlib") == []


def test_scoring_reaches_arrays_and_nothing_else():
    modules = ", ".join(name for name in NAMES if name.startswith("scoring"))
    assert after_importing(modules, "torch", "pandas", "sklearn", "pyarrow", "ray") == []


def test_cohort_reaches_no_torch():
    modules = ", ".join(name for name in NAMES if name.startswith("cohort"))
    assert after_importing(modules, "torch", "ray", "mlflow") == []


def test_only_the_door_asks_for_the_test_split():
    """A trial's process never receives a test label: nobody else asks a cohort for the rows of that split."""
    asking = [
        path.relative_to(REPOSITORY).as_posix() for path in FILES if 'indices("test")' in path.read_text()
    ]
    # A study asks whether there is such a split at all, the door for its labels.
    assert asking == ["analysis/judging/evaluation_set.py", "study/study.py"]


def test_no_signature_is_wider_than_eight_parameters():
    """But for the readers, whose parameters are a source's columns."""
    wide = []
    for path in FILES:
        if "readers" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(argument.arg not in ("self", "cls") for argument in named)
                if count > 8:
                    wide.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name} {count}")
    assert wide == []


def test_every_package_is_listed_and_imported_from_this_repository():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    listed = settings["tool"]["setuptools"]["packages"]
    there = {
        path.parent.relative_to(REPOSITORY).as_posix().replace("/", ".")
        for room in (*ROOMS, "radtune")
        for path in (REPOSITORY / room).rglob("__init__.py")
    }
    assert set(listed) == there
    for name in listed:
        assert Path(importlib.import_module(name).__file__).is_relative_to(REPOSITORY)
