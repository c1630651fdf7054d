"""Where a study stands: in a line while it runs, on a page then or afterwards."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study.command import shown_command
from study.lock import is_locked
from study.run_folder import RunFolder
from study.study_file import load_stored
from trainables.ranking import ranking
from trainables.records import TrialRecord

ROWS = 8
RUNNING, FINISHED = "running", "finished"


def progress(records: Iterable[TrialRecord], logreg: float, objective: str) -> str:
    """The best so far against the logistic-regression baseline and the published configurations, in words, as
    far as these are judged on the same images."""
    records = [record for record in records if not record.on_given_split]
    ranked = ranking(records)
    best = f"{ranked[0].objective:.3f} (#{ranked[0].number})" if ranked else "none yet"
    published = [
        f"{record.preset} {record.objective:.3f}"
        for record in records
        if record.preset and not math.isnan(record.objective)
    ]
    baseline = [] if math.isnan(logreg) else [f"logreg {logreg:.3f}"]  # still fitted, or no time for it
    return " · ".join([f"best {objective} {best}", *published, *baseline])


def counted(records: Iterable[TrialRecord]) -> str:
    """How many configurations ended how: `60 COMPLETE, 4 PRUNED`."""
    states = [record.state for record in records]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def nothing_completed(records: Iterable[TrialRecord]) -> str:
    """Why a study has no result, with the first reason in full; empty where one configuration completed."""
    records = sorted(records, key=lambda record: record.number)
    if ranking(records):
        return ""
    reason = next((f"; #{one.number}: {one.reason}" for one in records if one.reason), "")
    return f"no configuration completed ({counted(records) or 'none has ended'}){reason}"


def state_of(run: RunFolder) -> str:
    """`running`, `finished`, or how it stopped before its end."""
    if is_locked(run.lock_file):
        return RUNNING
    return run.ended_file.read_text() if run.ended_file.exists() else "stopped before its end"


def status(run: RunFolder) -> tuple[str, int]:
    """A line for scripts, and the exit code that says the same: 0 finished, 1 finished and nothing completed,
    3 to be resumed, 4 running.

    Raises:
        InputError: a bank file is damaged.
    """
    state = state_of(run)
    if state == RUNNING:
        return state, 4
    if state != FINISHED:
        return f"{state}; continue it with --resume", 3
    nothing = nothing_completed(run.records().values())
    return (nothing, 1) if nothing else (state, 0)


def describe_run(run: RunFolder) -> str:
    """What `radtune show` prints: state, counts, the best configurations, and what comes next.

    Raises:
        InputError: a bank file is damaged.
    """
    config = load_stored(run.study_file)
    records = run.records()
    wanted, objective = config.search.configurations, config.search.objective
    state = state_of(run)
    running, stopped = state == RUNNING, state not in (RUNNING, FINISHED)
    counts = counted(records.values())
    lines = [
        f"{config.name}: {state}, {len(records)}/{wanted} configurations{f' ({counts})' if counts else ''}",
        f"cohort {config.cohort}, encoder {config.encoder}",
        progress(records.values(), run.logreg(), objective),
        "",
    ]
    ranked = ranking(records.values())
    compared = [record for record in ranked if not record.on_given_split][:ROWS]
    if compared:
        space = importlib.import_module(f"search_spaces.{config.trainable}")
        lines += _table(compared, objective, space.COLUMNS)
    lines += [_beside(record, objective) for record in records.values() if record.on_given_split]
    if failed := [record for record in records.values() if record.state == "FAIL"]:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        lines.append(f"failed: #{failed[0].number} {failed[0].reason}{more}")
    if answer := run.answer():
        lines += ["", *answer.lines(objective)]
    if repeated := run.repeats()["lines"]:
        lines += ["", *repeated]
    if running and run.running_file.exists():
        lines += ["", *run.running_file.read_text().splitlines()]
    if stopped:
        lines += ["", "continue it with `radtune run STUDY.yaml --resume`"]
    if not running and not ranked:
        lines += ["", nothing_completed(records.values())]
    elif not running:
        lines += ["", _next(run)]
    return "\n".join(lines)


def _next(run: RunFolder) -> str:
    return f"report: {run.report}" if run.report.exists() else f"next: {shown_command('analyze', run.path)}"


def _beside(record: TrialRecord, objective: str) -> str:
    """A published configuration that cannot be held beside the others."""
    value = record.metrics.get(f"given_split.{objective}", math.nan)
    labels = int(record.metrics.get("given_split.labels_averaged", 0))
    return (
        f"#{record.number} {record.preset}, as published: {objective} {value:.3f} on the given validation "
        f"split, over {labels} label{'s' * (labels != 1)}; not comparable with scores out of fold"
    )


def _table(ranked: Sequence[TrialRecord], objective: str, columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Aligned lines; of each column the first of its parameters that the trial has. Every other parameter in
    which the trials differ has a column of its own."""
    placed = {key for keys in columns.values() for key in keys}
    values: dict[str, set[Any]] = {}
    for record in ranked:
        for key in dict.fromkeys(key for one in ranked for key in one.params):
            values.setdefault(key, set()).add(record.params.get(key))
    differing = [key for key, found in values.items() if len(found) > 1 and key not in placed]
    columns = {**columns, **{key: (key,) for key in differing}}
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
