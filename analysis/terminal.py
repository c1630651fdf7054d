"""The report in a terminal: headline, table of all rows, generalization gap, claims in brief."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from analysis.judging.claims import claimed, unclaimed
from analysis.judging.judgement import Judgement
from analysis.number_format import counted, ranged, score, signed
from scoring.objectives import OBJECTIVES
from search_spaces.publication import PUBLICATION, PUBLISHED_NAME

WIDTH = 110
_RANKING = {"macro_auroc": ("macro AUROC", 21), "macro_ap": ("macro AP", 21)}
COLUMNS = {
    **_RANKING,
    "macro_f1": ("macro F1", 21),
    "lrap": ("LRAP", 7),
    "coverage_error": ("coverage", 10),
    "exact_match": ("exact", 7),
}
"""Metric -> title and width; the wide ones show their intervals."""
COLUMNS_OF_MULTICLASS = {
    **_RANKING,
    "macro_f1": ("macro F1", 10),
    "accuracy": ("accuracy", 21),
    "balanced_accuracy": ("balanced", 10),
    "cohen_kappa": ("kappa", 8),
}
COLUMNS_OF_ORDINAL = {
    **_RANKING,
    "accuracy": ("accuracy", 10),
    "quadratic_kappa": ("quadratic kappa", 21),
    "mean_absolute_error": ("MAE", 8),
}


def summary(judgement: Judgement) -> str:
    """What `radtune analyze` prints."""
    objective = OBJECTIVES[judgement.study.objective].title
    return "\n".join(
        [
            *textwrap.wrap(judgement.headline, WIDTH),
            "",
            *_scores(judgement),
            "",
            *_gap(judgement),
            "",
            f"what may be claimed of {judgement.answer.name} ({objective}; AUROC of a label):",
            *_claims(judgement),
            *_undrawn([judgement.cohort.label_name(label) for label in judgement.cohort.labels]),
        ]
    )


def in_brief(title: str, lines: Sequence[str]) -> list[str]:
    """What a section says in the terminal, under its title."""
    wrapped = [textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in lines]
    return [f"{title.lower()}:", *(line for own in wrapped for line in own)]


def _scores(judgement: Judgement) -> Iterator[str]:
    scores = judgement.scores
    averages = scores[scores["label"] == ""].set_index(["setting", "metric"])
    name_width = _name_width(judgement)
    of_classes = COLUMNS_OF_ORDINAL if judgement.cohort.ordinal else COLUMNS_OF_MULTICLASS
    columns = of_classes if judgement.cohort.multiclass else COLUMNS
    yield " " * name_width + "".join(f"{title:>{width}}" for title, width in columns.values())
    for row in judgement.rows:
        cells = ""
        for metric, (_, width) in columns.items():
            found = averages.loc[(row.id, metric)]
            cells += f"{ranged(found) if width > 10 else score(found['value']):>{width}}"
        yield f"{row.name:<{name_width}}{cells}"
    averaged = counted(int(judgement.split.averaged_C.sum()), "label")
    yield f"macro averages over {averaged}, the same in every row; 95 % intervals over patients"
    if judgement.cohort.multiclass:
        yield "labels are multiclass: exactly one is decided for an image"
    if judgement.best_is_published:
        yield f"{judgement.answer.name} is {PUBLISHED_NAME} itself ({PUBLICATION})"
    elif judgement.published:
        yield f"{judgement.names[judgement.published]} is {PUBLISHED_NAME} ({PUBLICATION})"


def _gap(judgement: Judgement) -> Iterator[str]:
    before = "out of fold" if judgement.cross_validated else "validation"
    yield f"generalization gap of {judgement.study.objective}, {before} -> test ({before} minus test):"
    for row in judgement.gap.itertuples():
        numbers = f"{row.validation:.3f} -> {row.test:.3f}  ({signed(row.gap)})"
        yield f"  {judgement.names[row.setting]:<{_name_width(judgement)}}  {numbers}"


def _claims(judgement: Judgement) -> Iterator[str]:
    spoken = claimed(judgement.claims)
    width = max(len(claim.name or "average") for claim in spoken)
    for claim in spoken:
        yield from textwrap.wrap(
            f"{claim.name or 'average':<{width}}  {claim.brief}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (width + 4),
        )
    if silent := unclaimed(judgement.claims):
        yield from textwrap.wrap(f"no claim: {silent}", WIDTH, initial_indent="  ", subsequent_indent="  ")


def _undrawn(names: Sequence[str]) -> Iterator[str]:
    """That figures write some names otherwise than they are."""
    names = [name for name in names if not name.isascii()]  # every font has those
    if not names:
        return
    from analysis.fonts import as_drawn, drawable  # it brings matplotlib along, which words do without

    if renamed := [f"{name} as {as_drawn(name)}" for name in names if not drawable(name)]:
        yield ""
        yield from textwrap.wrap(
            f"PNG figures write {'; '.join(renamed)}: no font on this machine has these letters; install one "
            "that has, such as Noto Sans, and analyse again",
            WIDTH,
        )


def _name_width(judgement: Judgement) -> int:
    return max(len(row.name) for row in judgement.rows)
