"""Where a study stands: its ranking, and a page to read while it runs or afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from study.config import load_config
from study.lock import is_locked
from trainables.records import RunFolder, TrialRecord

ROWS = 8


def ranking(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Completed configurations, the best objective on validation first; ties go to the lower number."""
    complete = [record for record in records if record.state == "COMPLETE"]
    return sorted(complete, key=lambda record: (-record.objective, record.number))


def standing(records: Iterable[TrialRecord], logreg: float, objective: str) -> str:
    """The best so far against the paper's configuration and the logistic-regression floor, in words."""
    records = list(records)
    ranked = ranking(records)
    paper = next((record.objective for record in records if record.number == 0), math.nan)
    best = f"{ranked[0].objective:.3f} (#{ranked[0].number})" if ranked else "none yet"
    return f"best {objective} {best} · paper {paper:.3f} · logreg {logreg:.3f}"


def describe_run(run: RunFolder) -> str:
    """What `radtune show` prints: state, counts, the best configurations, and what comes next.

    Raises:
        InputError: a bank file is damaged.
    """
    config = load_config(run.study_file)
    records = run.records()
    logreg = json.loads(run.floors_file.read_text())["logreg"] if run.floors_file.exists() else math.nan
    wanted = config.search.configurations
    running = is_locked(run.lock_file)
    state = "running" if running else "finished" if len(records) >= wanted else "stopped before its end"
    states = [record.state for record in records.values()]
    counts = ", ".join(f"{states.count(name)} {name}" for name in sorted(set(states)))
    lines = [
        f"{config.name}: {state}, {len(records)}/{wanted} configurations{f' ({counts})' if counts else ''}",
        f"cohort {config.cohort}, encoder {config.encoder}",
        standing(records.values(), logreg, config.search.objective),
        "",
    ]
    ranked = ranking(records.values())[:ROWS]
    if ranked:
        lines += _table(ranked, config.search.objective, config.trainable)
    if failed := [record for record in records.values() if record.state == "FAIL"]:
        lines.append(f"failed: #{failed[0].number} {failed[0].reason}" + _more(len(failed)))
    if run.finalists_file.exists():
        lines += ["", *json.loads(run.finalists_file.read_text())["lines"]]
    if state == "stopped before its end":
        lines += ["", "continue it with `radtune run STUDY.yaml --resume`"]
    elif not running:
        report = run.analysis / "report.html"
        lines += ["", f"report: {report}" if report.exists() else f"next: radtune analyze {run.path}"]
    return "\n".join(lines)


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


_SHOWN = {
    "linear_probe": {
        name: (name,)
        for name in ("learning_rate", "weight_decay", "epochs", "loss", "positive_weight", "normalisation")
    },
    "fine_tune": {
        "method": ("method",),
        "tower_rate": ("tower_learning_rate", "adapter_learning_rate"),
        **{name: (name,) for name in ("head_learning_rate", "epochs", "loss", "augmentation", "init_head")},
    },
}
"""Of each trainable, the columns of the table and the parameters that stand in them, whichever exists."""


def _table(ranked: list[TrialRecord], objective: str, trainable: str) -> list[str]:
    columns = _SHOWN[trainable]
    width = {name: max(len(name), 10) for name in columns}
    titles = "  ".join(f"{name:>{width[name]}}" for name in columns)
    lines = [f"{'#':>5}  {objective:>11}  {'macro_auroc':>11}  {titles}"]
    for record in ranked:
        cells = {
            name: next((record.params[key] for key in keys if key in record.params), "")
            for name, keys in columns.items()
        }
        shown = "  ".join(
            f"{f'{cell:.3g}' if isinstance(cell, float) else cell!s:>{width[name]}}"
            for name, cell in cells.items()
        )
        auroc = record.metrics.get("val.macro_auroc", math.nan)
        lines.append(f"{record.number:>5}  {record.objective:>11.3f}  {auroc:>11.3f}  {shown}")
    return lines
