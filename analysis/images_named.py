"""Images of a cohort that somebody asks for by name."""

from __future__ import annotations

from collections.abc import Sequence

from cohort.errors import InputError
from cohort.look_alikes import as_written
from cohort.manifest import Cohort


def images_named(names: Sequence[str], cohort: Cohort) -> tuple[str, ...]:
    """`analysis.looked_at` as the cohort spells its images; InputError for one that it has not."""
    images = cohort.images()
    found = {name: as_written(name, images, "analysis.looked_at") for name in names}
    if strange := next((name for name, image in found.items() if image is None), None):
        raise InputError(f"analysis.looked_at: no image {strange!r} in {cohort.folder}")
    return tuple(dict.fromkeys(image for image in found.values() if image is not None))
