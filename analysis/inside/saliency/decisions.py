"""Maps by what was decided: right, missed, or seen where nothing is.

Shape legend: N test images, C labels, S maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.inside.models import Setting
from analysis.inside.saliency.localisation import Localisation
from analysis.inside.saliency.looking import Look
from analysis.inside.saliency.scores import FALSE, FOUND, MISSED, USUAL, Scores
from analysis.judging.evaluation_set import EvaluationSet

SAMPLED = 64
"""Images at most of each kind of decision, a seeded sample of more."""


def decided(split: EvaluationSet, row: Setting, looks: Sequence[Look]) -> np.ndarray:
    """bool, one a look: whether the row decides that the label is there."""
    place = {image: n for n, image in enumerate(split.rows_N.tolist())}
    columns = [split.labels.index(label) for _, label in looks]
    return row.test_decisions_NC[[place[image] for image, _ in looks], columns]


def usual_places(
    split: EvaluationSet, row: Setting, localisation: Localisation, method: str, seed: int
) -> pd.DataFrame:
    """Rows of `saliency.csv`: how often a map points where its label usually lies on other patients, of
    right, missed and false decisions. A false positive has no region that it could hit, and this is what can
    be asked of its map."""
    decided_NC = row.test_decisions_NC
    rng = np.random.default_rng(seed)
    columns = [split.labels.index(label) for label in localisation.labels]
    looks: list[Look] = []
    kinds: list[str] = []
    for kind, of_NC in (
        (FOUND, (split.targets_NC == 1) & decided_NC),
        (MISSED, (split.targets_NC == 1) & ~decided_NC),
        (FALSE, (split.targets_NC == 0) & decided_NC),
    ):
        own = np.argwhere(of_NC[:, columns])
        own = own[np.sort(rng.choice(len(own), min(len(own), SAMPLED), replace=False))]
        looks += [(int(split.rows_N[n]), localisation.labels[c]) for n, c in own]
        kinds += [kind] * len(own)
    if not looks:
        return Scores(np.zeros(1, dtype=int), seed).frame()
    with localisation.looking.counted(len(looks), "by decision") as looking:
        maps = looking.maps(row.predictor, looks, method)
    value_S = localisation.usual_places(looks, maps)
    patients = dict(zip(split.rows_N.tolist(), split.patients_N.tolist(), strict=True))
    patients_S = np.unique([patients[image] for image, _ in looks], return_inverse=True)[1]
    groups = {kind: ~np.isnan(value_S) & [one == kind for one in kinds] for kind in (FOUND, MISSED, FALSE)}
    table = Scores(patients_S, seed)
    table.add(
        (row.name, method),
        USUAL,
        value_S,
        {kind: own_S for kind, own_S in groups.items() if own_S.any()},
        exact=True,
    )
    return table.frame()
