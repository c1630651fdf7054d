"""From the names in a table to the files of a folder or an archive.

The folders in a name count: `b/1.png` is neither `a/1.png` nor the `1.png` of a root that is called `a`. How
Unicode writes a letter does not: macOS takes an accent apart, most tables do not. Nor does the case of an
image's ending, nor the ending itself where no file on the disk has it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cohort.errors import InputError
from cohort.look_alikes import normal_form

ENDINGS = tuple(".png .jpg .jpeg .dcm .dicom .tif .tiff .bmp .webp .gif .jp2 .nii".split())
"""Of images; what stands behind another dot, as in `1.2.840.10.55`, is a part of the name."""


def find_files(
    names: Sequence[Sequence[str]], files: Sequence[str], root: Path | str, others: Sequence[str] = ()
) -> tuple[list[str | None], list[str]]:
    """The file that each entry's names stand for, or None, and warnings about the folders and endings in the
    names. `others` are files beside them that no name may stand for.

    A name fits a file when one path is the tail of the other, with or without the file's ending. The longest
    fit wins; an exact path always does. Where the name is the longer one, the folders in front of the file
    must end in the name of `root` (`CheXpert/train/p1/1.png` from within `train/`, or within `train.zip`). In
    front of a file in a folder they may also be those of a root that bears another name, if they stand in
    front of every entry; this is warned of.

    Raises InputError where two files fit equally well, where two entries fit one file, and for a name that
    leads out of the folder.
    """
    index = FileIndex(files, others)
    fits = [_first_fit(alternatives, index, root) for alternatives in names]
    fronts = {front_of(*fit) for fit in fits if fit}
    root_names = names_of_root(root)
    found: list[str | None] = []
    taken: dict[str, str] = {}
    refused: list[tuple[str, str]] = []
    renamed = 0
    for alternatives, fit in zip(names, fits, strict=True):
        file = None
        if fit:
            name, file = fit
            front = front_of(name, file)
            if front and normal_form(PurePosixPath(front).name) not in root_names:
                if "/" in file and len(fronts) == 1:
                    renamed += 1
                else:
                    refused.append(fit)
                    file = None
        if file in taken:
            raise InputError(
                f"{root}: {taken[file]!r} and {alternatives[0]!r} both stand for the file {file!r}; "
                "an image must have one row"
            )
        if file is not None:
            taken[file] = alternatives[0]
        found.append(file)
    warnings = _endings_that_differ(fits, found)
    if renamed:
        warnings.append(f"the folder {min(fronts)!r} in front of {renamed} names is taken for {root}")
    if refused:
        name, file = refused[0]
        warnings.append(
            f"{len(refused)} names lead through another folder than {root}: {name!r} is not taken for its "
            f"{file!r}; give the folder that they start from"
        )
    return found, warnings


def _endings_that_differ(fits: Sequence[tuple[str, str] | None], found: Sequence[str | None]) -> list[str]:
    """A warning of the names that end otherwise than their files, or none."""
    differ = [
        fit
        for fit, file in zip(fits, found, strict=True)
        if fit and file and ending(fit[0]) not in ("", ending(fit[1]))
    ]
    if not differ:
        return []
    name, file = differ[0]
    return [
        f"{len(differ)} names end otherwise than their files ({name!r} is taken for {file!r}): no file ends "
        f"in {ending(name)}"
    ]


def _first_fit(alternatives: Sequence[str], index: FileIndex, root: Path | str) -> tuple[str, str] | None:
    """The first of an entry's names that fits a file, and that file."""
    for name in alternatives:
        fits = index.fits(name, root)
        if len(fits) > 1:
            if normal_form(fits[0]) == normal_form(fits[1]):
                raise InputError(
                    f"{root}: the image {name!r} may be either of two files whose names look alike, "
                    f"{fits[0]!a} and {fits[1]!a}, in which Unicode writes a letter in two ways; "
                    "rename one"
                )
            raise InputError(
                f"{root}: the image {name!r} may be {fits[0]!r} or {fits[1]!r}; "
                "name it with its folder and ending"
            )
        if fits:
            return name, fits[0]
    return None


def front_of(name: str, file: str) -> str:
    """The folders of a name in front of what it shares with its file; "" where it has none."""
    parts = _parts(name)
    return "/".join(parts[: max(0, len(parts) - len(_parts(file)))])


def names_of_root(root: Path | str) -> set[str]:
    """What the folder or archive is called, as it is given and where a link leads, an archive also without
    its ending."""
    paths = [Path(os.path.abspath(root)), Path(os.path.realpath(root))]
    names = {name for path in paths for name in (path.name, path.stem if path.is_file() else path.name)}
    return set(map(normal_form, names))


def _parts(path: str) -> list[str]:
    return [part for part in PurePosixPath(path.replace("\\", "/")).parts if part != "/"]


class FileIndex:
    """Files by their whole path and by the tails of it, each with and without the file's ending, in the
    normal form of Unicode."""

    def __init__(self, files: Sequence[str], others: Sequence[str] = ()) -> None:
        self._endings = {ending(file) for file in (*files, *others)}
        self._whole: dict[str, list[str]] = defaultdict(list)
        for file in files:
            form = normal_form(file)
            for path in {form, without_ending(form)}:
                self._whole[path].append(file)
        self._files = files
        self._by_tail: dict[int, dict[str, list[str]]] = {}

    def fits(self, name: str, root: Path | str, any_ending: bool = False) -> list[str]:
        """The files that fit `name` best: its whole path, a path that ends in it, a path that it ends in;
        with its own ending or without one, otherwise with that ending in another case, or with another where
        no file has it, or where `any_ending` may do."""
        parts = _parts(name)
        if ".." in parts:
            raise InputError(
                f"{root}: the image {name!r} leads out of its folder; only files inside it are read"
            )
        if not parts:
            return []
        fits = self._best([normal_form(part) for part in parts], parts[-1])
        end = ending(name)
        if fits or not end:
            return fits
        stem = [*map(normal_form, parts[:-1]), without_ending(normal_form(parts[-1]))]
        fits = self._best(stem, stem[-1])
        if same := [file for file in fits if ending(file) == end]:
            return same
        return fits if any_ending or end not in self._endings else []

    def _best(self, parts: Sequence[str], written: str) -> list[str]:
        path = "/".join(parts)
        fits = self._whole.get(path) or self._tails(len(parts)).get(path, [])
        start = 1
        while not fits and start < len(parts):
            fits = self._whole.get("/".join(parts[start:]), [])
            start += 1
        for spelling, form in ((written, str), (parts[-1], normal_form)):
            if with_ending := [file for file in fits if spelling == form(file.rpartition("/")[2])]:
                return with_ending
        return fits

    def _tails(self, length: int) -> dict[str, list[str]]:
        if length not in self._by_tail:
            tails = self._by_tail[length] = defaultdict(list)
            for file in self._files:
                parts = normal_form(file).split("/")
                if len(parts) > length:
                    tail = "/".join(parts[len(parts) - length :])
                    for path in {tail, without_ending(tail)}:
                        tails[path].append(file)
        return self._by_tail[length]


def without_ending(path: str) -> str:
    """A path without an image's ending, once; any other stays as it is."""
    return path[: -len(end)] if (end := ending(path)) else path


def ending(path: str) -> str:
    """An image's ending in lower case, or ""."""
    name = path.rpartition("/")[2].lower()
    return next((end for end in ENDINGS if name.endswith(end) and name != end), "")
