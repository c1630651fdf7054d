"""Patients that only images' names tell: `patient00001/study1/view1.jpg`, `10_left`, `person1_bacteria_1`."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cohort.errors import InputError, shortened
from cohort.readers.table_options import TableOptions

LONGEST_EXPRESSION = 200
_BRACKET = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((\?(?:P?<\w+>|:)?)?", re.DOTALL)
_BOUNDARY = re.compile(r"[_\- ]")
_NO_PATIENT = re.compile(
    r"(fold|part|batch|set|subset|images?|img|train(ing)?|val(idation)?|test|split)", re.IGNORECASE
)
_LARGEST_GROUP = 50
"""Images of a patient on average; more look like a part of a data set."""
_FEWEST_SHARED = 0.1
"""Of all images, that share the front of their name with another."""
_MOST_SHAPES = 4
_LOOKED_AT = 20_000
"""Names, the first ones: those of a patient stand together."""


def patients_of_names(names: Sequence[str], expression: str) -> list[str]:
    """`first_groups` for patients."""
    return first_groups(names, expression, "--patient-from")


def first_groups(names: Sequence[str], expression: str, option: str) -> list[str]:
    """What the first group of a regular expression holds, searched for in each name.

    Expressions are those of RE2, which takes time linear in the name whatever is asked.

    Raises:
        InputError: it is no such expression, has no group, is longer than 200 characters, or a name has
            nothing there.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise InputError(f"{option}: has more than {LONGEST_EXPRESSION} characters; shorten it")
    try:
        found = pc.extract_regex(pa.array(names, pa.string()), _with_one_group(expression, option))
    except pa.ArrowException as error:
        raise InputError(
            f"{option} {expression!r}: not a regular expression that is taken ({error}); lookarounds "
            "and references back are not"
        ) from error
    patients = [one and one["patient"] for one in found.to_pylist()]
    if without := [name for name, patient in zip(names, patients, strict=True) if not patient]:
        raise InputError(
            f"{option} {expression!r}: finds nothing in {len(without)} of {len(names)} names, "
            f"{shortened(without[0])!r} the first; add what these have, as in '(person[0-9]+|IM-[0-9]+)'"
        )
    return patients


def settle_patients(
    frame: pd.DataFrame, options: TableOptions, table: Path | str
) -> tuple[list[str], list[str]]:
    """The patient of each row, and warnings.

    Raises:
        InputError: nothing is said of patients, and the images' names tell them.
    """
    images = frame[options.image_column].tolist()
    if options.patient_column:
        return frame[options.patient_column].tolist(), []
    if options.patient_from:
        return patients_of_names(images, options.patient_from), []
    if options.patient_is_image:
        return images, []
    if likely := likely_expression(images):
        raise InputError(
            f"{table}: no column of patients is named, and several images seem to be of one patient by their "
            f"names, as {images[0]!r}; pass --patient-from {shlex.quote(likely)}, or --patient-is-image "
            "where each image is a patient of its own"
        )
    return images, ["no patient column: every image counts as its own patient"]


def likely_expression(names: Sequence[str]) -> str | None:
    """An expression for `patients_of_names` by whose patients several images come from one, or None where
    names do not look so: where no folder, and no front of a file's name, that holds a digit is shared by a
    few images each."""
    distinct = list(dict.fromkeys(name.replace("\\", "/") for name in names))[:_LOOKED_AT]
    return _of_folders(distinct) or _of_fronts(distinct)


def _with_one_group(expression: str, option: str) -> str:
    """The expression with its first group called `patient` and all others without a name."""
    count = 0

    def renamed(found: re.Match[str]) -> str:
        nonlocal count
        if not found[0].startswith("(") or found[1] == "?:" or found[1] == "?":
            return found[0]
        count += 1
        return "(?P<patient>" if count == 1 else "(?:"

    named = _BRACKET.sub(renamed, expression)
    if not count:
        raise InputError(
            f"{option} {expression!r}: has no group; put brackets around it, as in '(patient[0-9]+)'"
        )
    return named


def _of_folders(names: Sequence[str]) -> str | None:
    """The first level of folders whose names hold a digit and a few images each."""
    folders = [name.split("/")[:-1] for name in names]
    for level in range(max(map(len, folders), default=0)):
        at_level = [parts[level] for parts in folders if len(parts) > level]
        if len(at_level) < len(names) or not all(_may_be_patient(part) for part in set(at_level)):
            continue
        if _shared(Counter(at_level), len(names)):
            shapes = {_shape(part) for part in at_level}
            if len(shapes) <= _MOST_SHAPES:
                return f"(?:^|/)({'|'.join(sorted(shapes))})/"
    return None


def _of_fronts(names: Sequence[str]) -> str | None:
    """The shortest front of each file's name, up to a mark between words, of a shape that holds a digit and
    of which a few images share each."""
    files = [_fronts(name.rpartition("/")[2]) for name in names]
    by_shape: dict[str, Counter[str]] = defaultdict(Counter)
    for fronts in files:
        for front in fronts:
            by_shape[_shape(front)][front] += 1
    fit = {shape for shape, count in by_shape.items() if _shared(count, count.total())}
    chosen = [next((front for front in fronts if _shape(front) in fit), None) for fronts in files]
    count = Counter(front for front in chosen if front)
    shapes = sorted({_shape(front) for front in count})
    if not 0 < len(shapes) <= _MOST_SHAPES or not _shared(count, len(names)):
        return None
    if None not in chosen:
        return f"(?:^|/)({'|'.join(shapes)})[-_ ]"
    return f"(?:^|/)({'|'.join(shapes)}|[^/]+$)"  # what is called otherwise is a patient of its own


def _fronts(file: str) -> list[str]:
    """`PAT_46` and `PAT_46_881` of `PAT_46_881_14.png`: what stands before a mark, from the first that holds
    a digit on."""
    stem = file.rpartition(".")[0] or file
    fronts = [stem[: mark.start()] for mark in _BOUNDARY.finditer(stem)]
    return [front for front in fronts if _may_be_patient(front)]


def _may_be_patient(part: str) -> bool:
    words = re.split(r"[\W\d_]+", part)
    return any(map(str.isdigit, part)) and not any(_NO_PATIENT.fullmatch(word) for word in words if word)


def _shared(count: Counter[str], images: int) -> bool:
    several = sum(number for number in count.values() if number > 1)
    return len(count) > 1 and several >= _FEWEST_SHARED * images and images <= _LARGEST_GROUP * len(count)


def _shape(part: str) -> str:
    return re.sub(r"[0-9]+", "[0-9]+", re.sub(r"[^\w\- ]", lambda found: re.escape(found[0]), part))
