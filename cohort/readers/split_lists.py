"""Splits as lists of image names, a text file each, such as NIH's train_val_list.txt and test_list.txt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cohort.errors import InputError
from cohort.files import read_bounded
from cohort.limits import LARGEST_TABLE
from cohort.readers.named_files import FileIndex, ending

LISTED = "split (lists)"
"""The column that `with_listed_splits` adds."""


def split_and_rest(text: str, option: str) -> tuple[str, str]:
    """What stands before and behind the equals sign of `train=FILE`; InputError where there is none."""
    split, equals, rest = text.partition("=")
    if not (split.strip() and equals and rest.strip()):
        raise InputError(f"{option} {text!r}: expected a split and a name, as in {option} train=NAME")
    return split.strip(), rest.strip()


def with_listed_splits(
    frame: pd.DataFrame, image_column: str, lists: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The rows whose image stands in a list, with its split in the column `LISTED`, and warnings.

    Args:
        lists: `SPLIT=FILE` each; a name stands for an image as a name stands for a file.

    Raises:
        InputError: a list cannot be read, an image stands in two, a name may be of two images, or no image
            stands in any.
    """
    index = FileIndex(list(dict.fromkeys(frame[image_column])))
    side: dict[str, str] = {}
    warnings = []
    for text in lists:
        split, file = split_and_rest(text, "--split-list")
        names = _names(Path(file))
        absent = []
        for name in names:
            fits = index.fits(name, file)
            if len(fits) > 1:
                raise InputError(
                    f"{file}: {name!r} may be {fits[0]!r} or {fits[1]!r}; name it with its folder"
                )
            if not fits:
                absent.append(name)
            elif side.setdefault(fits[0], split) != split:
                raise InputError(
                    f"{file}: {name!r} is in a list of {side[fits[0]]!r} already; keep it in one"
                )
        if absent:
            warnings.append(
                f"{len(absent)} of {len(names)} names in {Path(file).name} are not in the table ({absent[0]})"
            )
    listed = [side.get(image) for image in frame[image_column]]
    if not any(listed):
        raise InputError(
            f"--split-list: no image of the table is in a list, {frame[image_column].iloc[0]!r} say"
        )
    kept = frame.assign(**{LISTED: pd.Series(listed, index=frame.index, dtype=object)})
    return kept[[split is not None for split in listed]], warnings


def _names(path: Path) -> list[str]:
    """One name per line; what stands behind the name of an image file, labels say, is left out."""
    try:
        text = read_bounded(path, LARGEST_TABLE, "split it").decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable list of names ({error})") from error
    names = []
    for line in filter(None, map(str.strip, text.splitlines())):
        first = line.replace(",", " ").replace("\t", " ").split()[0]
        names.append(first if ending(first) else line)
    return names
