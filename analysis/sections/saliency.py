"""Where the model looks, scored against what people drew and what reports say, and against floors that know
nothing of the image."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from tqdm import tqdm

from analysis.evidence import Evidence
from analysis.predictors import PAPER, ZERO_SHOT, Scored
from analysis.saliency import asked_for, sides, tables
from analysis.saliency.annotated import Pair, annotated_pairs
from analysis.saliency.looking import Looking
from analysis.saliency.regions import METHOD, Regions
from analysis.saliency.scores import Key
from analysis.section import Folded, Part, Section, Words
from cohort.errors import InputError
from vlm.saliency import check_encoder

TITLE = "Where the model looks"

NOTHING = Words(
    text="Nobody drew on the test images, so that maps can be looked at and not scored: `radtune cohort "
    "annotate` reads boxes and masks, `radtune saliency` draws the maps."
)


def run(evidence: Evidence) -> Section:
    pairs = annotated_pairs(evidence.cohort, evidence.split.rows_N)
    stated = sides.statements(evidence.cohort, evidence.split.rows_N)
    if not (pairs or stated or evidence.study.looked_at):
        return Section(parts=[NOTHING])
    settings, refused = _settings(evidence)
    if why := refused.get(evidence.best):
        return Section(parts=[Words(text=f"There are no maps: {why}.", kind="note")])
    try:
        return _looked(evidence, pairs, stated, settings, refused)
    except InputError as error:  # the answer's maps have no gradient at all
        return Section(parts=[Words(text=f"There are no maps: {error}.", kind="note")])


def _looked(
    evidence: Evidence,
    pairs: Sequence[Pair],
    stated: Sequence[sides.Statement],
    settings: Sequence[Scored],
    refused: dict[str, str],
) -> Section:
    looking = Looking(cohort=evidence.cohort)
    parts: list[Part] = []
    rows: list[pd.DataFrame] = []
    if pairs:
        regions = Regions.of(evidence, looking, pairs, settings)
        parts, rows = regions.parts()
        refused = refused | regions.refused
    else:
        parts.append(NOTHING)
    if stated:
        of_sides, table = _sides(evidence, looking, stated, settings, refused)
        parts, rows = [*parts, *of_sides], [*rows, table]
    if evidence.study.images:
        parts += asked_for.pictures(evidence, looking, settings, METHOD)
    if refused:
        parts.append(Words(lines=[f"{what}: {why}" for what, why in refused.items()], kind="note"))
    return Section(parts=parts, tables={"saliency": pd.concat(rows, ignore_index=True)} if rows else {})


def _settings(evidence: Evidence) -> tuple[list[Scored], dict[str, str]]:
    """Rows whose maps are compared, and of others why they have none."""
    names = dict.fromkeys([ZERO_SHOT, PAPER, evidence.best, evidence.compared_with])
    settings, refused = [], {}
    for name in names:
        if evidence.has(name):
            try:
                check_encoder(evidence.row(name).predictor.encoder)
                settings.append(evidence.row(name))
            except InputError as error:
                refused[name] = str(error)
    return settings, refused


def _sides(
    evidence: Evidence,
    looking: Looking,
    stated: Sequence[sides.Statement],
    settings: Sequence[Scored],
    refused: dict[str, str],
) -> tuple[list[Part], pd.DataFrame]:
    looks = [(one.row, one.label) for one in stated]
    maps: dict[Key, list] = {}
    for row in tqdm(settings, desc="sides", unit="setting", disable=None, leave=False):
        try:
            maps[row.name, METHOD] = looking.maps(row.predictor, looks, METHOD)
        except InputError as error:
            refused[f"{row.name}, {METHOD}"] = str(error)
    development = sides.statements(evidence.cohort, evidence.data.rows_N)
    table = sides.scores(stated, development, maps, evidence.cohort.labels, evidence.study.seed)
    note = (
        "The share of maps with most of their mass on the stated side, by chance 0.50, and where one zone "
        "is stated with their centre of mass in it (the lungs' thirds, cut at 37 and 55 % of the image's "
        "height); atlas: where the label lies most often on other patients. The patient's right is the "
        "image's left. Exact intervals over patients."
    )
    parts: list[Part] = [
        Words(text=tables.sides_sentence(table, (evidence.best, METHOD))),
        Folded(
            title="Sides and zones, each label",
            parts=[tables.of_sides(table, evidence.cohort, list(maps)), Words(text=note, kind="note")],
        ),
    ]
    return parts, table
