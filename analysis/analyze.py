"""The conductor of an analysis: shared tables onto the disk, each section in its turn, then the page."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from tqdm import tqdm

from analysis.claims import Claim
from analysis.evidence import Evidence
from analysis.number_format import ranged
from analysis.page import section_html, study_head, write_page
from analysis.section import Folded, Section, Words
from analysis.sections import OF_EXCLUSIVE, SECTIONS
from analysis.terminal import in_brief, summary
from cohort.csv_text import csv_text, read_csv_text
from cohort.errors import InputError
from cohort.files import write_atomically
from cohort.html_table import html_table
from cohort.labels import CHEXPERT_14
from cohort.manifest import Cohort
from vlm.predictor import Predictor

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
    """One sentence: the best configuration's test score, its interval, and the strongest floor."""
    text: str
    """Headline, table and claims, for a terminal."""
    report: Path
    """The self-contained HTML report."""
    failed: dict[str, str]
    """Section -> why it could not be made; its place on the page says so too."""
    not_recorded: str = ""
    """Why MLflow does not count this opening of the test split yet; empty where it does."""

    def __repr__(self) -> str:
        return f"AnalysisResult({self.headline} Report: {self.report})"

    def _repr_html_(self) -> str:
        averages = self.scores[self.scores["label"] == ""].set_index(["setting", "metric"])
        rows = [
            (setting, *(ranged(averages.loc[(setting, metric)]) for metric in NOTEBOOK_COLUMNS))
            for setting in dict.fromkeys(self.scores["setting"])
        ]
        return html_table(repr(self), [("setting", *NOTEBOOK_COLUMNS.values()), *rows])


def write_analysis(evidence: Evidence, folder: Path, sections: Sequence[str] | None = None) -> AnalysisResult:
    """Write what the evidence supports.

    `test_scores.csv`, `comparisons.csv`, `generalization_gap.csv`, `settings.csv`, `claims.txt`,
    `test_predictions.parquet`, each section's own tables, `figures/*.png` and `report.html`, each atomically,
    replacing an earlier analysis. A section that fails does not take the report with it.

    Args:
        folder: `RUN/analysis`.
        sections: which, in the order of the page; None: `usual` of the cohort.

    Raises:
        InputError: as `checked`.
    """
    sections = checked(sections or usual(evidence.cohort), evidence.cohort)
    # One that does not import or has no title is a fault of the code, found before anything is computed.
    modules = {name: importlib.import_module(f"analysis.sections.{name}") for name in sections}
    titles = {name: module.TITLE for name, module in modules.items()}
    with tqdm(total=5 + len(sections), desc="analysis", unit="step", disable=None, leave=False) as bar:

        def step(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        step("intervals")
        scores = evidence.scores
        step("paired tests")
        comparisons = evidence.comparisons
        step("validation against test")
        tables = {"test_scores": scores, "comparisons": comparisons, "generalization_gap": evidence.gap}
        step("predictions")
        predictions = evidence.predictions.to_parquet(index=False)
        write_atomically(folder / "test_predictions.parquet", predictions)
        # settings.csv comes last: it says that the tables before it are whole, and of which trials they are.
        for name, table in (tables | {"settings": evidence.settings}).items():
            _write_table(folder, name, table)
        claims = "".join(f"{claim.sentence}\n" for claim in evidence.claims)
        write_atomically(folder / "claims.txt", claims.encode())

        on_page: list[tuple[str, Markup]] = []
        failed: dict[str, str] = {}
        brief: list[str] = []
        for name in sections:
            step(name)
            try:
                section = modules[name].run(evidence)
                html = section_html(section, folder)
                for table_name, table in section.tables.items():
                    _write_table(folder, table_name, table)
                if section.brief:
                    brief += ["", *in_brief(titles[name], section.brief)]
            except Exception as error:
                failed[name] = " ".join(str(error).split()) or type(error).__name__
                html = section_html(_failure(failed[name], error), folder)
            on_page.append((titles[name], html))
        step("page")
        report = write_page(study_head(evidence), on_page, folder)
    return AnalysisResult(
        scores=scores,
        comparisons=comparisons,
        claims=evidence.claims,
        gap=evidence.gap,
        headline=evidence.headline,
        text="\n".join([summary(evidence), *brief]),
        report=report,
        failed=failed,
    )


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
                f"the section {name} is for exclusive labels, of which an image has exactly one, and those "
                f"of this cohort are independent; there are: {', '.join(known)}"
            )
    return sections


def _fits(section: str, cohort: Cohort) -> bool:
    return cohort.exclusive or section not in OF_EXCLUSIVE


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


def read_tables(folder: Path, predictor: Predictor) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """`test_scores.csv` and `comparisons.csv` of an analysis folder.

    None where there is no analysis, and where it scored another configuration, or another answer, under the
    name of `predictor`, as after a study that has grown since.
    """
    if not (folder / "settings.csv").exists():
        return None
    settings = read_csv_text(folder / "settings.csv").set_index("setting")
    if predictor.name not in settings.index:
        return None
    there, origin = settings.loc[predictor.name], predictor.origin
    same_trial = there["trial"] == origin.trial if origin.trial is not None else np.isnan(there["trial"])
    # The file has six digits.
    if not (same_trial and np.isclose(there["validation"], origin.objective, rtol=1e-4, equal_nan=True)):
        return None
    scores, comparisons = (
        read_csv_text(folder / f"{name}.csv").fillna({"label": ""}) for name in ("test_scores", "comparisons")
    )
    return scores, comparisons
