"""A body, its pose and a finding to draw, and the reading of a mask."""

from dataclasses import replace

import numpy as np

from cohort.labels import CHEXPERT_14
from sample.anatomy import BOTH, KINDS, Finding, draw_body, draw_pose
from sample.appearance import SAMPLE


def body_and_pose(seed=0, appearance=SAMPLE, sex="M", view="PA"):
    rng = np.random.default_rng(seed)
    body = draw_body(rng, appearance, sex, 50)
    return body, replace(draw_pose(rng, appearance, view), rotation=0.0, shift_x=0.0, shift_y=0.0, scale=1.0)


def finding_of(label, *, side="left", zone="lower", severity=0.9, seed=1, kind=None):
    kinds = KINDS.get(label, ("",))
    return Finding(
        side=BOTH if label == "Edema" else side,
        zone=zone,
        kind=kinds[0] if kind is None else kind,
        severity=severity,
        seed=seed,
    )


def bit(masks_HW, label):
    return (masks_HW >> CHEXPERT_14.index(label) & 1).astype(bool)
