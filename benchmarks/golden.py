"""Whether a change of the code changed a result: the sample's studies at a fixed seed, value by value.

    python -m benchmarks.golden write golden.json        before the change
    python -m benchmarks.golden compare golden.json      after it; exit status 1 where something differs

Three studies on a small sample: linear probes, linear probes chosen by macro-F1, and fine-tuning with the
first beside it. Each is run, analysed and exported by the command line, as a user would. Kept are the
journal, the parameters and the decisions, which must be equal, and every float, which must agree to six
digits. A golden file belongs to one machine: another processor sums in another order. About two minutes;
`--studies` and `--images` make it less.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from study.journal import shown_journal

REPOSITORY = Path(__file__).resolve().parents[1]
TABLES = (
    "test_scores.csv",
    "comparisons.csv",
    "generalization_gap.csv",
    "settings.csv",
    "test_predictions.parquet",
)
# Clock times, and ids that are drawn.
VOLATILE = ("seconds", "mlflow_run_id", "images_per_second", "data_wait_share", "peak_device_memory_mb")

COMMON = {
    "cohort": "cohorts/sample",
    "encoder": "phantom-clip",
    "analysis": {"top": 2, "bootstrap": 1000, "permutations": 1000},
}
STUDIES: dict[str, dict[str, Any]] = {
    "probe": {"search": {"configurations": 48}},
    "probe-f1": {"search": {"configurations": 24, "objective": "macro_f1"}},
    "fine-tune": {
        "trainable": "fine_tune",
        "search": {
            "configurations": 4,
            "ranges": {"epochs": {"low": 2, "high": 3}, "ema_decay": [0.0]},
        },
        "fine_tune": {"keep": 2, "precision": "fp32"},
        "analysis": {"top": 2, "bootstrap": 1000, "permutations": 1000, "compare_with": "runs/probe"},
    },
}


def radtune(folder: Path, *arguments: str) -> None:
    """One command of the command line, in `folder`, with this checkout's code."""
    command = [sys.executable, "-c", "import sys; from study.cli import main; sys.exit(main())", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"radtune {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def results(folder: Path, studies: Sequence[str], images: int) -> dict[str, Any]:
    """Run the studies in `folder`; study -> what it left, as plain JSON values."""
    radtune(folder, "cohort", "sample", "--out", "cohorts/sample", "--images", str(images), "--size", "128")
    shown = sorted(str(path) for path in (folder / "cohorts/sample").rglob("*.png"))[:40]
    found = {}
    for name in studies:
        print(name, flush=True)
        (folder / f"{name}.yaml").write_text(json.dumps(COMMON | STUDIES[name]))
        radtune(folder, "run", f"{name}.yaml", "--set", "resources.gpus=0")
        run = folder / "runs" / name
        radtune(folder, "analyze", f"runs/{name}")
        radtune(folder, "export", f"runs/{name}", "--out", f"exports/{name}", "--with-encoder")
        radtune(folder, "predict", f"exports/{name}", *shown, "--out", f"{name}.csv")
        predictions = pd.read_csv(folder / f"{name}.csv")
        predictions["image"] = predictions["image"].str.replace(str(folder), "")
        found[name] = {
            "journal": _journal(run / "optuna.journal", name),
            "trials": _table(pd.read_parquet(run / "trials.parquet")),
            "bundle predictions": _table(predictions),
            **{table: _table(_read(run / "analysis" / table)) for table in TABLES},
        }
    return found


def _journal(path: Path, name: str) -> list[dict[str, Any]]:
    study = optuna.load_study(study_name=name, storage=shown_journal(path))
    return [
        {"number": trial.number, "state": trial.state.name, "params": trial.params, "value": trial.value}
        for trial in study.get_trials(deepcopy=False)
    ]


def _read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def _table(frame: pd.DataFrame) -> list[dict[str, Any]]:
    kept = [column for column in frame.columns if column not in VOLATILE]
    return json.loads(frame[kept].to_json(orient="records", double_precision=10))


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """A line for each value that is another; floats may differ beyond their sixth digit."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            if key in before and key in after:
                yield from differences(before[key], after[key], f"{where}/{key}")
            else:
                yield f"{where}/{key}: only {'before' if key in before else 'after'}"
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{where}: {len(before)} entries before, {len(after)} after"
        for place, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from differences(one, other, f"{where}[{place}]")
    elif isinstance(before, float) and isinstance(after, int | float):
        if not math.isclose(before, after, rel_tol=1e-6, abs_tol=1e-6):
            yield f"{where}: {before} before, {after} after"
    elif before != after:
        yield f"{where}: {before!r} before, {after!r} after"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("write", "compare"))
    parser.add_argument("golden", type=Path, help="the JSON file")
    parser.add_argument("--shown", type=int, default=40, help="differences to print (default: %(default)s)")
    parser.add_argument(
        "--studies", nargs="+", choices=STUDIES, default=list(STUDIES), help="default: all of them"
    )
    parser.add_argument("--images", type=int, default=600, help="of the sample (default: %(default)s)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        found = json.loads(json.dumps(results(Path(scratch), asked.studies, asked.images)))
    if asked.what == "write":
        asked.golden.write_text(json.dumps(found, indent=1))
        return 0
    different = list(differences(json.loads(asked.golden.read_text()), found))
    for line in different[: asked.shown]:
        print(line)
    print(f"{len(different)} differences" if different else "equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
