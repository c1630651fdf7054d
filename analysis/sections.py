"""The sections of a report: a file each, with a TITLE and a `run` that gives an `analysis.section.Section`.

Those in `analysis.judging.sections` are made of predictions and labels, `run(judgement)`; those in
`analysis.inside.sections` look into the models as well, `run(models)`, and are made after the others. To add
one, write its file in either folder and name it below.
"""

SECTIONS = (
    "scores",
    "published_rules",
    "claims",
    "labels",
    "confusion",
    "curves",
    "gap",
    "choice",
    "separability",
    "shortcuts",
    "overlay",
    "saliency",
    "search",
    "calibration",
    "label_audit",
    "data",
    "limits",
)
"""All sections, in the order of the page; imports nothing, so that a study file is checked at once."""

INSIDE = ("separability", "shortcuts", "overlay", "saliency")
"""Those that need the models."""

OF_MULTICLASS = ("confusion",)
"""Those that only a cohort of multiclass labels has."""

LONG = {
    "overlay": "texts are burned into test images, and each is embedded again",
    "saliency": "maps of every annotated or stated finding, by several settings",
    "separability": "labels are permuted over the patients, many times in each feature space",
}
"""Sections that may take many minutes without a GPU, and what they do meanwhile."""
