"""The course of an analysis: shared tables onto the disk, then the sections that judge, then those that look
into the models, the page after each."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup
from tqdm import tqdm

from analysis.judging.claims import Claim
from analysis.judging.judgement import Judgement
from analysis.number_format import ranged
from analysis.page import figure_files, section_html, study_head, write_page
from analysis.report_parts import (
    ReportPart,
    drop_parts,
    note_judged,
    note_unfinished,
    read_parts,
    unfinished,
    write_part,
)
from analysis.section import Folded, Section, Words
from analysis.sections import INSIDE, LONG, OF_MULTICLASS, SECTIONS
from analysis.study_state import state_of
from analysis.terminal import in_brief, summary
from cohort.csv_text import csv_text
from cohort.errors import InputError
from cohort.files import write_atomically
from cohort.html_table import html_table
from cohort.labels import CHEXPERT_14
from cohort.manifest import Cohort

if TYPE_CHECKING:  # it brings torch along, which judging does without
    from analysis.inside.models import Models

NOTEBOOK_COLUMNS = {"macro_auroc": "macro AUROC", "macro_ap": "macro AP", "macro_f1": "macro F1"}
"""Metric -> title, of what a result shows in a notebook."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalysisResult:
    """What `write_analysis` wrote, for the command line, MLflow and a notebook."""

    scores: pd.DataFrame
    """`test_scores.csv`, see `Evidence.scores`."""
    comparisons: pd.DataFrame
    """`comparisons.csv`, see `Evidence.comparisons`."""
    claims: list[Claim]
    """One a label in the cohort's order, then one on the average: what this test split supports."""
    gap: pd.DataFrame
    """`generalization_gap.csv`, see `Evidence.gap`."""
    headline: str
    """One sentence: the best configuration's test score, its interval, and the strongest baseline."""
    text: str
    """Headline, table and claims, for a terminal."""
    report: Path
    """The self-contained HTML report."""
    failed: dict[str, str]
    """Section -> why it could not be made; its place on the page says so too."""
    remarks: Sequence[str] = ()
    """What the report lacks, in sentences; they stand beneath its headline."""
    not_recorded: str = ""
    """Why MLflow does not count this access to the test split yet; empty where it does."""

    def __repr__(self) -> str:
        return f"AnalysisResult({self.headline} Report: {self.report})"

    def _repr_html_(self) -> str:
        averages = self.scores[self.scores["label"] == ""].set_index(["setting", "metric"])
        rows = [
            (setting, *(ranged(averages.loc[(setting, metric)]) for metric in NOTEBOOK_COLUMNS))
            for setting in dict.fromkeys(self.scores["setting"])
        ]
        return html_table(repr(self), [("setting", *NOTEBOOK_COLUMNS.values()), *rows])


def write_analysis(
    judgement: Judgement,
    folder: Path,
    sections: Sequence[str] | None = None,
    *,
    skip: Collection[str] = (),
    merge: bool = False,
    models: Callable[[], Models] | None = None,
    echo: Callable[[str], None] = lambda text: None,
) -> AnalysisResult:
    """Write what the evidence supports.

    `test_scores.csv`, `comparisons.csv`, `generalization_gap.csv`, `settings.csv`, `claims.txt`,
    `test_predictions.parquet`, then `report.html` with its head, and again after each section with the
    section's own tables and `figures/*.png`; each file atomically. A section that fails does not take the
    report with it. Where an analysis of the same sections and state of the study was stopped, this one makes
    those that it had not made. Of an earlier analysis of the same state (`analysis.report_parts`) stay the
    sections that are skipped, and with `merge` all that are not written now; tables and figures of all others
    are deleted.

    Args:
        folder: `RUN/analysis`.
        sections: which; None: `usual` of the cohort.
        skip: those of them that are not made now.
        merge: keep the other sections that lie there.
        models: opens what the sections of `analysis.sections.INSIDE` need, once all others are written; None:
            these fail, and say so on the page.
        echo: receives what stands in the terminal: the summary before the models are opened, then what
            sections add to it.

    Raises:
        InputError: as `checked`.
    """
    sections = _chosen(sections, skip, judgement.cohort)
    modules, titles = _modules(sections)
    with tqdm(total=5 + len(sections), desc="analysis", unit="step", disable=None, leave=False) as bar:

        def step(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        _write_shared(judgement, folder, step)
        report = _Report.begun(judgement, folder, sections, skip, merge=merge)
        text, brief, failed = summary(judgement), [], {}
        waiting = _to_be_made(folder, report.state, sections)

        def add(names: Sequence[str], of: Judgement | Models | None) -> None:
            for name in names:
                step(name)
                if name in LONG:
                    tqdm.write(f"{name}: {LONG[name]}; `--skip {name}` leaves it out", file=sys.stderr)
                part, said, why = _made(name, titles[name], modules[name], of, folder, report.state)
                if why:
                    failed[name] = why
                brief.extend(said)
                write_part(folder, part)
                waiting.remove(name)
                note_unfinished(folder, report.state, sections, [*waiting, *failed] if waiting else ())
                report.write(waiting)

        add([name for name in waiting if name not in INSIDE], judgement)
        with tqdm.external_write_mode():
            echo(text)
        if inside := [name for name in waiting if name in INSIDE]:
            add(inside, models() if models else None)
        step("page")
    for said in brief:
        echo(said)
    return AnalysisResult(
        scores=judgement.shown(judgement.scores),
        comparisons=judgement.shown(judgement.comparisons),
        claims=judgement.claims,
        gap=judgement.shown(judgement.gap),
        headline=judgement.headline,
        text="\n".join([text, *brief]),
        report=folder / "report.html",
        failed=failed,
        remarks=report.write(waiting=()),
    )


def _to_be_made(folder: Path, state: str, sections: Sequence[str]) -> list[str]:
    """All sections but those that an analysis made before it was stopped, of which a line says so."""
    waiting = unfinished(folder, state, sections)
    note_unfinished(folder, state, sections, waiting)
    if made := [name for name in sections if name not in waiting]:
        tqdm.write(f"made before the analysis was stopped: {', '.join(made)}", file=sys.stderr)
    return waiting


def _modules(sections: Sequence[str]) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """Section -> its module, and its title: one that does not import or has none is a fault of the code,
    found before anything is computed."""
    modules = {
        name: importlib.import_module(f"analysis.{'inside' if name in INSIDE else 'judging'}.sections.{name}")
        for name in sections
    }
    return modules, {name: module.TITLE for name, module in modules.items()}


def _chosen(sections: Sequence[str] | None, skip: Collection[str], cohort: Cohort) -> list[str]:
    """The sections to be written, in the order of the page; InputError as `checked`."""
    checked(list(skip), cohort)
    asked = checked(sections or usual(cohort), cohort)
    chosen = [name for name in SECTIONS if name in asked and name not in skip]
    if not chosen:
        raise InputError("--skip leaves no section of the report to be written; skip fewer")
    return chosen


def _write_shared(judgement: Judgement, folder: Path, step: Callable[[str], None]) -> None:
    """The files that every analysis has."""
    step("intervals")
    scores = judgement.scores
    step("paired tests")
    comparisons = judgement.comparisons
    step("validation against test")
    tables = {"test_scores": scores, "comparisons": comparisons, "generalization_gap": judgement.gap}
    step("predictions")
    write_atomically(folder / "test_predictions.parquet", judgement.test_predictions.to_parquet(index=False))
    for name, table in (tables | {"settings": judgement.settings}).items():
        _write_table(folder, name, judgement.shown(table))
    claims = "".join(f"{claim.sentence}\n" for claim in judgement.claims)
    write_atomically(folder / "claims.txt", claims.encode())
    note_judged(folder, judgement.predictions.content_hash)  # last: the tables before it are whole


def _made(
    name: str, title: str, module: ModuleType, of: Judgement | Models | None, folder: Path, state: str
) -> tuple[ReportPart, Sequence[str], str]:
    """A section with its tables and figures written, what the terminal says of it, and why it could not be
    made; empty where it was."""
    drawn: list[str] = []
    tables: list[str] = []
    why = ""
    try:
        if of is None:
            raise InputError("the models were not opened")
        section = module.run(of)
        drawn = figure_files(section)
        html = section_html(section, folder)
        for table_name, table in section.tables.items():
            _write_table(folder, table_name, table)
            tables.append(table_name)
        said = ["", *in_brief(title, section.brief)] if section.brief else []
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        html = section_html(_failure(why, error), folder)
        half = ReportPart(name=name, title=title, state=state, html=html, tables=tables, figures=drawn)
        for path in half.files(folder):
            path.unlink(missing_ok=True)
        drawn, tables, said = [], [], []
    part = ReportPart(name=name, title=title, state=state, html=html, tables=tables, figures=drawn)
    return part, said, why


@dataclass(frozen=True, kw_only=True)
class _Report:
    """The page as far as its sections go."""

    judgement: Judgement
    folder: Path
    skipped: Collection[str]
    outdated: Sequence[str]
    """Sections that lay there of another state of the study."""
    state: str
    """Of the study, as its sections bear it."""

    @classmethod
    def begun(
        cls,
        judgement: Judgement,
        folder: Path,
        sections: Sequence[str],
        skip: Collection[str],
        *,
        merge: bool,
    ) -> _Report:
        """With what stays of an earlier report; the rest of that is deleted."""
        state, before = state_of(judgement), read_parts(folder)
        outdated = [name for name, part in before.items() if part.state != state]
        kept = {*sections, *skip} if not merge else set(before)
        drop_parts(folder, [name for name in before if name in outdated or name not in kept])
        report = cls(judgement=judgement, folder=folder, outdated=outdated, skipped=skip, state=state)
        report.write(waiting=sections)
        return report

    def write(self, waiting: Sequence[str]) -> list[str]:
        """Write `report.html` of the sections that lie in the folder, and return its remarks.

        Args:
            waiting: sections that are still to be made.
        """
        parts = read_parts(self.folder)
        remarks = self._remarks(parts, [name for name in waiting if name not in parts])
        sections = [(part.title, Markup(part.html)) for part in parts.values()]
        write_page(study_head(self.judgement, remarks), sections, self.folder)
        return remarks

    def _remarks(self, parts: Mapping[str, ReportPart], waiting: Sequence[str]) -> list[str]:
        remarks = []
        if waiting:
            remarks.append(
                f"This report is being written; to come: {', '.join(waiting)}. Where it stays so, the "
                "analysis was stopped; `radtune analyze RUN` goes on."
            )
        if skipped := [name for name in SECTIONS if name in self.skipped and name not in parts]:
            remarks.append(f"Skipped when this report was written: {', '.join(skipped)}.")
        gone = [name for name in self.outdated if name not in parts and name not in (*waiting, *skipped)]
        if gone:
            remarks.append(
                "Left out, since an earlier analysis made them of another state of the study (its final "
                f"model, cohort, split or settings have changed): {', '.join(gone)}."
            )
        absent = [
            name for name in usual(self.judgement.cohort) if name not in (*parts, *waiting, *skipped, *gone)
        ]
        if absent:
            remarks.append(f"Not in this report: {', '.join(absent)}; `radtune analyze RUN` writes them.")
        return remarks


def usual(cohort: Cohort) -> list[str]:
    """The sections of a report where none are asked for: all that there are for such labels, but the
    published rules only with the labels that they were published with."""
    unusual = set() if cohort.labels == CHEXPERT_14 else {"published_rules"}
    return [name for name in SECTIONS if name not in unusual and _fits(name, cohort)]


def checked(sections: Sequence[str], cohort: Cohort) -> Sequence[str]:
    """The sections; InputError where there is none of such a name, or not for such labels."""
    known = [name for name in SECTIONS if _fits(name, cohort)]
    for name in sections:
        if name not in SECTIONS:
            raise InputError(f"there is no section {name!r} of the report; there are: {', '.join(known)}")
        if name not in known:
            raise InputError(
                f"the section {name} is for multiclass labels, of which an image has exactly one, and those "
                f"of this cohort are independent; there are: {', '.join(known)}"
            )
    return sections


def _fits(section: str, cohort: Cohort) -> bool:
    return cohort.multiclass or section not in OF_MULTICLASS


def _failure(reason: str, error: Exception) -> Section:
    lines = traceback.format_exception(error)
    return Section(
        parts=[
            Words(text=f"This section could not be made: {reason}. The rest of the report is whole."),
            Folded(title="What happened", parts=[Words(lines="".join(lines).splitlines()[-12:])]),
        ]
    )


def _write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    write_atomically(folder / f"{name}.csv", csv_text(table, "%.6g").encode())
