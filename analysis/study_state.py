"""By what two analyses are known to be of the same state of a study, so that one report may hold sections of
both."""

from __future__ import annotations

import hashlib
import json

from analysis.judging.judgement import Judgement
from cohort.version import VERSION


def state_of(judgement: Judgement) -> str:
    """32 hexadecimal digits of all that a section's content follows from: the cohort with its split, every
    row with its scores and thresholds, the trials, how they are judged, and the version of this program."""
    facts = judgement.study
    content = [
        VERSION,
        judgement.cohort.content_hash,
        judgement.predictions.content_hash,
        judgement.split.averaged_C.tolist(),
        [facts.name, facts.objective, facts.seed, facts.bootstrap, facts.permutations, facts.images],
        [str(point) for point in facts.operating_points],
        [f"{number} {state}" for number, state in facts.trials[["number", "state"]].to_numpy()],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
