"""The maps of images that somebody names: `analysis.looked_at`, or `--image`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.inside.models import Models, Setting
from analysis.inside.saliency.figures import Line, sheet
from analysis.inside.saliency.looking import Looking
from analysis.section import Picture
from cohort.annotations import Annotations
from cohort.errors import InputError

LABELS = 6
"""Of an image at most."""


def pictures(models: Models, looking: Looking, settings: Sequence[Setting], method: str) -> list[Picture]:
    """One an image: its labels by the settings."""
    cohort, best = models.judgement.cohort, models.judgement.answer
    found, images, splits = Annotations.open(cohort), cohort.images(), cohort.column("split")
    drawn = []
    for image in models.judgement.study.looked_at:
        row = images.index(image)
        labels = _labels_of(models, row, found)
        looks = [(row, label) for label in labels]
        maps: list[Sequence[np.ndarray] | list[None]] = []
        for setting in settings:
            try:
                maps.append(looking.maps(setting.predictor, looks, method))
            except InputError:  # its gradient is zero: the table says so
                maps.append([None] * len(looks))
        pixels = cohort.files().decode(row)
        lines = [
            Line.shrunk(
                cohort.label_name(label),
                pixels,
                [own[place] for own in maps],
                found.mask(image, label) if found else None,
            )
            for place, label in enumerate(labels)
        ]
        seen = "" if splits[row] == "test" else f" The models have seen it: it is of {splits[row]}."
        drawn.append(
            Picture(
                name=f"saliency_{row}",
                figure=sheet(lines, [setting.name for setting in settings]),
                alt=f"The image {image} with the maps of each setting.",
                title=image,
                caption=f"{image}, {method}: labels that are there, that {best.name} decides for, or that "
                f"have an annotated region; where there are none, the likeliest.{seen}",
            )
        )
    return drawn


def _labels_of(models: Models, row: int, found: Annotations | None) -> list[str]:
    """Those that are there, decided for or drawn, the likeliest first; otherwise the likeliest alone."""
    cohort, best = models.judgement.cohort, models.best
    features = models.features(best.encoder, best.precision)[[row]]
    wanted_C = best.rule.decide(best.scores(features))[0]
    place = np.flatnonzero(models.judgement.split.rows_N == row)
    if len(place):
        wanted_C = wanted_C | (models.judgement.split.targets_NC[place[0]] == 1)
    if found is not None:
        image = cohort.images()[row]
        wanted_C = wanted_C | [(image, label) in found.by_image for label in cohort.labels]
    order = np.argsort(-best.probabilities(features)[0], kind="stable").tolist()
    chosen = [c for c in order if wanted_C[c]] or order[:1]
    return [cohort.labels[c] for c in chosen[:LABELS]]
