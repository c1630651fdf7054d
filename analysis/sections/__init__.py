"""One file an analysis: a TITLE, and `run(evidence)` that gives a `analysis.section.Section`.

To add one, write its file here and name it below.
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

OF_EXCLUSIVE = ("confusion",)
"""Those that only a cohort of exclusive labels has."""

LONG = {
    "overlay": "texts are burned into test images, and each is embedded again",
    "saliency": "maps of every annotated or stated finding, by several settings",
    "separability": "labels are dealt anew to the patients, many times in each feature space",
}
"""Sections that may take many minutes without a GPU, and what they do meanwhile."""
