"""How rows are drawn: a colour each, by what a row is for; nothing that draws, since tables show it too."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.judging.scored_row import ScoredRow
from scoring.predictions import ANSWER, PUBLISHED
from trainables.baselines import (
    ALL_POSITIVE,
    LOGREG,
    LOGREG_DEEP,
    METADATA,
    PIXELS,
    PREVALENCE,
    PROMPTED,
    RANDOM,
    TEXT_INFORMED,
    ZERO_SHOT,
)

# Okabe and Ito's palette, which colour-blind readers can tell apart; what knows nothing is grey.
BEST, OTHER = "#0072B2", "#56B4E9"
PUBLISHED_COLOUR = "#D55E00"
COLOURS = {
    LOGREG: "#009E73",
    LOGREG_DEEP: "#009E73",
    PIXELS: "#CC79A7",
    METADATA: "#000000",
    ZERO_SHOT: "#E69F00",
    TEXT_INFORMED: "#E69F00",
    PROMPTED: "#E69F00",
    PREVALENCE: "#8a94a0",
    RANDOM: "#8a94a0",
    ALL_POSITIVE: "#8a94a0",
}
"""Of a baseline, by its id."""


@dataclass(frozen=True)
class RowStyle:
    """How a row of the tables is drawn."""

    name: str
    colour: str


def row_style(row: ScoredRow) -> RowStyle:
    """By what the row is for: the answer stands out, further configurations are alike."""
    by_role = {ANSWER: BEST, PUBLISHED: PUBLISHED_COLOUR}
    return RowStyle(row.name, by_role.get(row.role) or COLOURS.get(row.id, OTHER))
