"""A study's answer, or one of its configurations, as a bundle with its card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.judging.evaluation_set import SplitCounts
from analysis.judging.judgement import Judgement
from analysis.model_card import model_card
from study.inputs import Inputs
from study.provenance import revision
from trainables.candidates import Candidate
from vlm.bundle_writing import save_bundle


def export_bundle(
    folder: str | Path,
    candidate: Candidate,
    inputs: Inputs,
    *,
    objective: str,
    judgement: Judgement | None,
    counts: Sequence[SplitCounts],
    with_encoder: bool,
) -> Path:
    """Write the bundle, and return its folder.

    Args:
        candidate: what is exported; the card shows the scores of its row.
        inputs: of its study.
        objective: the study's.
        judgement: of the study as it is, where somebody had it analysed.
        counts: of every split of the cohort.
        with_encoder: put the encoder's weights in; a tuned tower's always are.
    """
    predictor = candidate.predictor
    own_tower = predictor.encoder is not inputs.encoder
    card = model_card(
        predictor,
        inputs.cohort,
        own_tower=own_tower,
        objective=objective,
        row=candidate.id,
        judgement=judgement,
        split_counts=counts,
        provenance={"revision": revision()},
    )
    return save_bundle(folder, predictor, inputs.cohort, card=card, with_encoder=with_encoder or own_tower)
