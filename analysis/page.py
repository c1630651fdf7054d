"""The report: the sections on one HTML page that needs no network, their figures as PNG files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from analysis.judging.judgement import Judgement
from analysis.section import Cell, Folded, Part, Picture, Section, Table, Terms, Words
from cohort.file_names import file_names
from cohort.files import write_atomically
from vlm.encoder_names import shown

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
LOST = {"PRUNED": "stopped early", "FAIL": "failed"}
STRIP_WIDTH, STRIP_MARGIN = 120, 4
"""Of the small drawings in tables, in pixels."""


def section_html(section: Section, folder: Path) -> Markup:
    """A section as it stands on the page; its figures are written as `folder/figures/<name>.png` too, by the
    names that `file_names` makes of theirs."""
    drawings = {}
    for picture, name in _named(section.parts):
        from analysis import figures  # matplotlib takes a second to import, and most sections are words

        file = folder / "figures" / f"{name}.png"
        drawings[picture.name] = Markup(figures.write(picture.figure, file, picture.alt))
    return Markup(_template("section.html").render(parts=section.parts, drawings=drawings))


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands above the sections of a page, and what the page is."""

    kicker: str
    """What kind of page it is."""
    title: str
    headline: str
    facts: Sequence[tuple[str, str, str]]
    """(what, value, detail) of the line beneath the headline."""
    tables: str
    """The files beside it that its numbers come from, in words."""
    remarks: Sequence[str] = ()
    """What the page lacks, in sentences."""


def write_page(head: Head, sections: Sequence[tuple[str, Markup]], folder: Path) -> Path:
    """Write `folder/report.html`, and return its path.

    Args:
        sections: title and `section_html` of each, in the order of the page.
    """
    html = _template("page.html").render(head=head, sections=sections)
    path = folder / "report.html"
    write_atomically(path, html.encode())
    return path


def study_head(judgement: Judgement, remarks: Sequence[str] = ()) -> Head:
    """The head of a study's report; `remarks` as in `Head`."""
    return Head(
        kicker="hyperparameter study",
        title=judgement.study.name,
        headline=judgement.headline,
        facts=_facts(judgement),
        tables="test_scores.csv, comparisons.csv and generalization_gap.csv",
        remarks=remarks,
    )


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for kind in (Words, Table, Terms, Picture, Folded):
        environment.tests[kind.__name__.lower()] = lambda part, kind=kind: isinstance(part, kind)
    environment.filters["cell"] = lambda cell: Cell(text=cell) if isinstance(cell, str) else cell
    environment.filters["strip"] = _strip
    return environment.get_template(name)


def figure_files(section: Section) -> list[str]:
    """The names of the files in `figures` of a section, without their ending."""
    return [name for _, name in _named(section.parts)]


def _named(parts: Sequence[Part]) -> list[tuple[Picture, str]]:
    """All pictures, each with the name of its file."""
    pictures = _pictures(parts)
    return list(zip(pictures, file_names([picture.name for picture in pictures]), strict=True))


def _pictures(parts: Sequence[Part]) -> list[Picture]:
    """All pictures among the parts and in what is folded."""
    found = []
    for part in parts:
        if isinstance(part, Picture):
            found.append(part)
        elif isinstance(part, Folded):
            found += _pictures(part.parts)
    return found


def _facts(judgement: Judgement) -> list[tuple[str, str, str]]:
    """(what, value, detail) of the line beneath the headline."""
    encoder = judgement.predictions.facts["encoder"]
    states = judgement.study.trials["state"].value_counts()
    lost = [f"{states[state]} {what}" for state, what in LOST.items() if state in states]
    return [
        ("encoder", shown(encoder["name"]), f"{encoder['width']} features"),
        ("configurations", f"{states.sum():,}", ", ".join(lost)),
        *(
            (SPLIT_NAMES[counts.split], f"{counts.images:,}", f"images of {counts.patients:,} patients")
            for counts in judgement.split.counts
        ),
        (
            "labels",
            str(len(judgement.cohort.labels)),
            ("multiclass, " if judgement.cohort.multiclass else "")
            + f"{judgement.split.averaged_C.sum()} in the averages",
        ),
    ]


def _strip(cell: Cell, ends: tuple[float, float]) -> Markup:
    """A value and its interval as a small drawing, with a tick at 0.5; `ends` are the values at its ends."""
    value, low, high, colour = cell.strip
    bottom, top = ends

    def x(at: float) -> str:
        inner = STRIP_WIDTH - 2 * STRIP_MARGIN
        return f"{STRIP_MARGIN + inner * (at - bottom) / (top - bottom):.1f}"

    parts = [f'<line x1="{x(0.5)}" x2="{x(0.5)}" y1="2" y2="16" class="chance"/>']
    if np.isfinite(low):
        left, right = x(max(low, bottom)), x(min(high, top))
        parts.append(f'<line x1="{left}" x2="{right}" y1="9" y2="9" stroke="{colour}" stroke-width="2"/>')
    if np.isfinite(value):
        parts.append(f'<circle cx="{x(value)}" cy="9" r="3.6" fill="{colour}"/>')
    return Markup(
        f'<svg class="strip" width="{STRIP_WIDTH}" height="18" aria-hidden="true">{"".join(parts)}</svg>'
    )
