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
        lines += _table(ranked, config.search.objective)
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


def _table(ranked: list[TrialRecord], objective: str) -> list[str]:
    names = ("learning_rate", "weight_decay", "epochs", "loss", "positive_weight", "normalisation")
    lines = [f"{'#':>5}  {objective:>11}  {'macro_auroc':>11}  " + "  ".join(f"{name:>15}" for name in names)]
    for record in ranked:
        cells = [record.params.get(name, "") for name in names]
        shown = "  ".join(f"{f'{c:.3g}' if isinstance(c, float) else c!s:>15}" for c in cells)
        auroc = record.metrics.get("val.macro_auroc", math.nan)
        lines.append(f"{record.number:>5}  {record.objective:>11.3f}  {auroc:>11.3f}  {shown}")
    return lines
