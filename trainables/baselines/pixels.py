"""Logistic regression on raw pixels, its size and C the best on validation: what needs no encoder."""

from __future__ import annotations

from dataclasses import replace

from trainables.baselines import PIXELS
from trainables.baselines.base import Baseline, BaselineInputs, chosen
from trainables.baselines.logistic import train_logistic
from trainables.records import TrialRecord
from vlm.encoders import load_encoder
from vlm.encoders.pixels import NAMES, SIDES, name_of


def fit(inputs: BaselineInputs) -> list[Baseline]:
    """In colour where the cohort's images are."""
    best = chosen(inputs.kept.get(PIXELS) or [_of_side(inputs, side) for side in SIDES])
    encoder = load_encoder(best.params["encoder"])
    side, channels = NAMES[encoder.name]
    colour = "colour" if channels == 3 else "gray"
    note = f"logistic regression on {side} x {side} {colour} pixels, C = {best.params['C']:g}"
    return [
        Baseline(
            id=PIXELS,
            note=f"{note}, size and C chosen on validation",
            records=(best,),
            encoder=encoder,
        )
    ]


def _of_side(inputs: BaselineInputs, side: int) -> TrialRecord:
    """The best regression on images of this size."""
    encoder = load_encoder(name_of(side, inputs.cohort.channels))
    its_data = replace(
        inputs.data,
        features_ND=inputs.features(encoder, "fp32")[inputs.data.rows_N],
        precision="fp32",
        kinds=encoder.kinds,
        image_views=1,
        text_CD=None,
    )
    records = train_logistic(
        its_data, objective_name=inputs.objective, common_scale=True, given_up=inputs.given_up
    )
    best = chosen(records)
    return replace(best, params=best.params | {"encoder": encoder.name})
