"""Where the model looks, scored against annotated regions, organs and what reports say, and against baselines
that know nothing of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.inside.models import Models, Setting
from analysis.inside.saliency import asked_for, organs, sides, tables
from analysis.inside.saliency.annotated import Pair, annotated_pairs, by_people, organ_pairs
from analysis.inside.saliency.looking import Look, Looking
from analysis.inside.saliency.regions import METHOD, Regions
from analysis.inside.saliency.scores import Key
from analysis.section import Folded, Part, Section, Words
from cohort.errors import InputError
from trainables.baselines import ZERO_SHOT
from vlm.saliency import check_encoder

TITLE = "Where the model looks"

NOTHING = Words(
    text="No finding is annotated on the test images, so that maps can be looked at and hits not counted: "
    "`radtune cohort annotate` reads boxes and masks, `radtune saliency` draws the maps."
)


def run(models: Models) -> Section:
    pairs = annotated_pairs(models.judgement.cohort, models.judgement.split.rows_N)
    stated = sides.statements(models.judgement.cohort, models.judgement.split.rows_N)
    inside = organ_pairs(
        models.judgement.cohort,
        models.judgement.split.rows_N,
        models.judgement.split.targets_NC,
        models.judgement.split.labels,
    )
    if not (pairs or inside or stated or models.judgement.study.looked_at):
        return Section(parts=[NOTHING])
    settings, refused = _settings(models)
    if why := refused.get(models.judgement.answer.name):
        return Section(parts=[Words(text=f"There are no maps: {why}.", kind="note")])
    try:
        return _looked(models, pairs, inside, stated, settings, refused)
    except InputError as error:  # the answer's maps have no gradient at all
        return Section(parts=[Words(text=f"There are no maps: {error}.", kind="note")])


def _looked(
    models: Models,
    pairs: Sequence[Pair],
    of_organs: Mapping[str, Sequence[Pair]],
    stated: Sequence[sides.Statement],
    settings: Sequence[Setting],
    refused: dict[str, str],
) -> Section:
    looking = Looking(cohort=models.judgement.cohort)
    parts: list[Part] = []
    rows: list[pd.DataFrame] = []
    brief: list[str] = []
    if pairs:
        regions = Regions.of(models, looking, pairs, settings)
        parts, rows, brief = regions.parts()
        refused = refused | regions.refused
    else:
        parts.append(NOTHING)
    inside: list[pd.DataFrame] = []
    for organ, own_pairs in of_organs.items():
        own, table, lines = _organ(models, looking, organ, own_pairs, settings, refused)
        parts, inside, brief = [*parts, *own], [*inside, table], [*brief, *lines]
    if stated:
        of_sides, table, line = _sides(models, looking, stated, settings, refused)
        parts, rows, brief = [*parts, *of_sides], [*rows, table], [*brief, line]
    if models.judgement.study.images:
        parts += asked_for.pictures(models, looking, settings, METHOD)
    if refused:
        parts.append(Words(lines=[f"{what}: {why}" for what, why in refused.items()], kind="note"))
    found = {"saliency": rows, "saliency_organs": inside}
    return Section(
        parts=parts,
        tables={name: pd.concat(own, ignore_index=True) for name, own in found.items() if own},
        brief=brief,
    )


def _settings(models: Models) -> tuple[list[Setting], dict[str, str]]:
    """Rows whose maps are compared, and of others why they have none."""
    judgement = models.judgement
    ids = (ZERO_SHOT, judgement.published, judgement.best, judgement.compared_with)
    settings, refused = [], {}
    for id in dict.fromkeys(ids):
        if models.has(id):
            predictor = models.predictor(id)
            try:
                check_encoder(predictor.encoder)
                settings.append(Setting(judgement.row(id), predictor))
            except InputError as error:
                refused[judgement.names[id]] = str(error)
    return settings, refused


def _maps(
    looking: Looking,
    looks: Sequence[Look],
    settings: Sequence[Setting],
    refused: dict[str, str],
    what: str,
) -> dict[Key, Sequence[np.ndarray]]:
    """Each setting's maps of these looks; why a setting has none goes to `refused`."""
    maps: dict[Key, Sequence[np.ndarray]] = {}
    with looking.counted(len(looks) * len(settings), what) as counted:
        for row in settings:
            try:
                maps[row.name, METHOD] = counted.maps(row.predictor, looks, METHOD)
            except InputError as error:
                refused[f"{row.name}, {METHOD}"] = str(error)
    return maps


def _organ(
    models: Models,
    looking: Looking,
    organ: str,
    pairs: Sequence[Pair],
    settings: Sequence[Setting],
    refused: dict[str, str],
) -> tuple[list[Part], pd.DataFrame, list[str]]:
    looks = [(pair.row, pair.label) for pair in pairs]
    maps = _maps(looking, looks, settings, refused, organ)
    table = organs.scores(organ, pairs, maps, models.judgement.cohort.labels, models.judgement.study.seed)
    lines = organs.sentences(table, organ, models.judgement.cohort, (models.judgement.answer.name, METHOD))
    whose = "people drew" if by_people(pairs) else "the cohort is annotated with"
    note = (
        f"Maps of labels that an image has, {METHOD}; the {organ} as {whose}. An organ is where a finding "
        "may be and not where it is: nothing is hit here, and the energy inside is held against the organ's "
        "share of what the encoder sees. 95 % intervals over patients."
    )
    parts: list[Part] = [
        organs.by_label(table, organ, models.judgement.cohort, list(maps)),
        Words(lines=lines),
        Words(text=note, kind="note"),
    ]
    return parts, table, lines


def _sides(
    models: Models,
    looking: Looking,
    stated: Sequence[sides.Statement],
    settings: Sequence[Setting],
    refused: dict[str, str],
) -> tuple[list[Part], pd.DataFrame, str]:
    maps = _maps(looking, [(one.row, one.label) for one in stated], settings, refused, "sides")
    development = sides.statements(models.judgement.cohort, models.data.rows_N)
    best = (models.judgement.answer.name, METHOD)
    table = sides.scores(
        stated, development, maps, models.judgement.cohort.labels, models.judgement.study.seed, family=[best]
    )
    line = tables.sides_sentence(table, stated, best)
    note = (
        "The share of maps with most of their mass on the stated side, by chance that with the statements of "
        "other patients with the label, and where one zone is stated with their centre of mass in it (the "
        "lungs' thirds, cut at 37 and 55 % of the image's height); atlas: where the label lies most often on "
        "other patients. The patient's right is the image's left. Exact intervals over patients; p: "
        "statements permuted among patients within each label."
    )
    parts: list[Part] = [
        Words(text=line),
        Folded(
            title="Sides and zones, each label",
            parts=[
                tables.of_sides(table, models.judgement.cohort, list(maps)),
                Words(text=note, kind="note"),
            ],
        ),
    ]
    return parts, table, line
