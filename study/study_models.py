"""The models behind the rows of a study's tables, for what looks inside them."""

from __future__ import annotations

from collections.abc import Callable

from analysis.inside.models import Models
from analysis.judging.judgement import Judgement
from scoring.predictions import OTHER_STUDY
from study.study_rows import StudyRows, openers
from vlm.predictor import Predictor


def models_of(rows: StudyRows, judgement: Judgement, other: Callable[[str], Predictor]) -> Models:
    """The predictors behind the rows of a judgement of this study, each opened when it is first asked for.

    Args:
        rows: of the study.
        other: opens the answer of the study that it is compared with, under the name of its row.
    """
    of_rows = dict(openers(lambda: rows, judgement.predictions))
    for row in judgement.predictions.of_role(OTHER_STUDY):
        of_rows[row.id] = lambda name=row.name: other(name)
    return Models(
        judgement=judgement,
        encoder=rows.inputs.encoder,
        data=rows.inputs.data,
        features=rows.inputs.features(rows.config.cache),
        openers=of_rows,
    )
