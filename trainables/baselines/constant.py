"""What says the same of every image: each label's prevalence in training, and every label.

The second is no answer where labels are multiclass; there the first decides for the most common label.
"""

from __future__ import annotations

import numpy as np

from scoring.decision_rule import DecisionRule
from scoring.metrics import prevalences
from trainables.baselines import ALL_POSITIVE, PREVALENCE
from trainables.baselines.base import Baseline, BaselineInputs
from trainables.records import TrialRecord
from vlm.linear_head import LinearHead


def fit(inputs: BaselineInputs) -> list[Baseline]:
    """The prevalence, and of independent labels all-positive decisions."""
    data = inputs.data
    prior_C = prevalences(data.targets_NC[data.training_N()])
    bias_C = np.log(prior_C if data.multiclass else prior_C / (1 - prior_C))
    found = [
        Baseline(
            id=PREVALENCE,
            note="how common each label is in training, the same for every image",
            records=(_record(inputs, bias_C, ranks_only=False),),
            encoder=inputs.encoder,
        )
    ]
    if not data.multiclass:
        found.append(
            Baseline(
                id=ALL_POSITIVE,
                note="every label for every image",
                records=(_record(inputs, np.zeros(len(prior_C)), ranks_only=True),),
                encoder=inputs.encoder,
            )
        )
    return found


def _record(inputs: BaselineInputs, bias_C: np.ndarray, *, ranks_only: bool) -> TrialRecord:
    labels = len(bias_C)
    rule = DecisionRule.fixed(labels, inputs.data.multiclass)
    return TrialRecord(
        number=-1,
        params={},
        state="COMPLETE",
        precision=inputs.data.precision,
        strategy=rule.strategy,
        thresholds={rule.strategy: rule.thresholds_C.tolist()},
        few=[False] * labels,
        multiclass=rule.multiclass,
        ranks_only=ranks_only,
        arrays=LinearHead.plain(np.zeros((1, labels)), bias_C).tensors(),
    )
