"""The methods that an answer has to beat, a file each: `fit(inputs)` gives its rows, each a `base.Baseline`.

To add one, write its file here and name it below.
"""

BASELINES = (
    "random",
    "constant",
    "zero_shot",
    "kept_columns",
    "pixels",
    "text_informed",
    "logistic",
)
"""All of them, the least informed first, as the tables have them; imports nothing, so that what judges knows
their ids without torch."""

RANDOM = "baseline/random"
PREVALENCE = "baseline/prevalence"
ALL_POSITIVE = "baseline/all-positive"
ZERO_SHOT = "baseline/zero-shot"
PROMPTED = "baseline/zero-shot-prompts"
METADATA = "baseline/metadata"
PIXELS = "baseline/pixels"
TEXT_INFORMED = "baseline/text-informed"
LOGREG = "baseline/logreg"
LOGREG_DEEP = "baseline/logreg-deep"
