"""The vision-language model as it is: the bare label names, and the better of two styles of prompts.

name      raw image feature . text feature of the bare label (arXiv 2506.14136).
ensemble  logit scale x cosine with the mean direction of several sentences (Radford et al. 2021).
pair      logit scale x (cosine with the finding - cosine with its absence): the logit of the softmax over
          the two (Tiu et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scoring.judging import SHRINKAGE, Scale, judge, objective
from trainables.baselines import PROMPTED, ZERO_SHOT
from trainables.baselines.base import Baseline, BaselineInputs, chosen
from trainables.records import TrialRecord, judged_fields
from trainables.trial_data import ProbeData
from vlm.encoders import Encoder
from vlm.feature_kinds import PROJECTED
from vlm.linear_head import LinearHead
from vlm.prompts import Wording, text_prototypes

BARE = "name"
NOTES = {"ensemble": "mean of several prompts per label", "pair": "finding against its absence"}
"""The styles of prompts among which validation chooses."""


def fit(inputs: BaselineInputs) -> list[Baseline]:
    """Nothing where the encoder has no text tower in the space of its features."""
    if inputs.encoder.text_refusal:
        return []
    prompted = tuple(zero_shot_record(inputs, style) for style in NOTES)
    return [
        Baseline(
            id=ZERO_SHOT,
            note="image · text product with the bare label name",
            records=(zero_shot_record(inputs, BARE),),
            encoder=inputs.encoder,
        ),
        Baseline(
            id=PROMPTED,
            note=f"{NOTES[chosen(prompted).params['prompts']]}, chosen on validation",
            records=prompted,
            encoder=inputs.encoder,
        ),
    ]


def zero_shot_record(inputs: BaselineInputs, style: str) -> TrialRecord:
    """One style, its thresholds fitted on validation."""
    data = inputs.data
    head = _prototype_head(inputs.encoder, data.labels, style, Wording.of(inputs.cohort))
    scores_1MC = head.logits(data.features_ND[data.judged_N()]).astype(np.float64)[None]
    return ranking_record(data, head, scores_1MC, {"prompts": style}, inputs.objective)


def ranking_record(
    data: ProbeData, head: LinearHead, scores_1MC: np.ndarray, params: dict, objective_name: str
) -> TrialRecord:
    """The record of a head whose scores only rank; the judged images' scores set their scale."""
    rows, scale = data.judged(), Scale.standardising(scores_1MC)
    (judged,) = judge(scores_1MC, rows, [SHRINKAGE], scale)
    value = objective(objective_name, scores_1MC, rows, [SHRINKAGE], scale)[0]
    return TrialRecord(
        number=-1,
        params=params,
        state="COMPLETE",
        objective=float(value),
        precision=data.precision,
        ranks_only=True,
        scale=(scale.centre, scale.width),
        arrays=head.tensors(),
        **judged_fields(judged),
    )


def _prototype_head(encoder: Encoder, labels: Sequence[str], style: str, wording: Wording) -> LinearHead:
    """Zero-shot as a linear head: the text prototypes are its weights."""
    first = encoder.kinds[PROJECTED].first
    present_CD, absent_CD = text_prototypes(encoder, labels, style, wording)
    if style == BARE:
        return LinearHead.plain(present_CD.T, first=first)
    direction_CD = present_CD if absent_CD is None else present_CD - absent_CD
    return LinearHead.plain(encoder.logit_scale * direction_CD.T, l2=True, first=first)
