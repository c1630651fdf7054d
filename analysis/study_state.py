"""By what two analyses are known to be of the same state of a study, so that one report may hold sections of
both."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from analysis.evidence import Evidence
from analysis.predictors import FLOORS
from cohort.version import VERSION


def state_of(evidence: Evidence) -> str:
    """32 hexadecimal digits of all that a section's content follows from: the cohort with its split, the
    study's answer and other trained rows with their thresholds, the trials, how they are scored, and the
    version of this program."""
    facts = evidence.study
    told = hashlib.sha256()

    def tell(*values: object) -> None:
        told.update(json.dumps([str(value) for value in values]).encode())

    tell(VERSION, evidence.cohort.content_hash, evidence.encoder.fingerprint, evidence.compared_with)
    tell(facts.name, facts.objective, facts.seed, facts.bootstrap, facts.images, facts.published)
    tell(*facts.operating_points)
    tell(evidence.judged.folds_N.tolist(), evidence.split.averaged_C.tolist())
    tell(*(f"{number} {state}" for number, state in facts.trials[["number", "state"]].to_numpy()))
    for row in evidence.rows:
        tell(row.name, row.note, row.rule.strategy)
        if row.name in FLOORS or row.predictor is None:
            continue  # it follows from the cohort and the encoder
        told.update(np.ascontiguousarray(row.rule.thresholds_C).tobytes())
        for head in row.predictor.heads:
            for name, array in sorted(head.tensors().items()):
                tell(name, array.shape)
                told.update(np.ascontiguousarray(array).tobytes())
    return told.hexdigest()[:32]
