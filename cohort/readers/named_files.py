"""From the names in a table to the files of a folder or an archive.

The folders in a name count: `b/1.png` is neither `a/1.png` nor the `1.png` of a root that is called `a`. How
Unicode writes a letter does not: macOS takes an accent apart, most tables do not.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cohort.errors import InputError
from cohort.look_alikes import normal_form


def find_files(
    names: Sequence[Sequence[str]], files: Sequence[str], root: Path | str
) -> tuple[list[str | None], list[str]]:
    """The file that each entry's names stand for, or None, and warnings about the folders in the names.

    A name fits a file when one path is the tail of the other, with or without the file's ending. The longest
    fit wins; an exact path always does. Where the name is the longer one, the folders in front of the file
    must end in the name of `root` (`CheXpert/train/p1/1.png` from within `train/`, or within `train.zip`). In
    front of a file in a folder they may also be those of a root that bears another name, if they stand in
    front of every entry; this is warned of.

    Raises InputError where two files fit equally well, where two entries fit one file, and for a name that
    leads out of the folder.
    """
    index = FileIndex(files)
    fits = [_first_fit(alternatives, index, root) for alternatives in names]
    fronts = {_front(*fit) for fit in fits if fit}
    names_of_root = _names_of(root)
    found: list[str | None] = []
    taken: dict[str, str] = {}
    refused: list[tuple[str, str]] = []
    renamed = 0
    for alternatives, fit in zip(names, fits, strict=True):
        file = None
        if fit:
            name, file = fit
            front = _front(name, file)
            if front and normal_form(PurePosixPath(front).name) not in names_of_root:
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
    warnings = []
    if renamed:
        warnings.append(f"the folder {min(fronts)!r} in front of {renamed} names is taken for {root}")
    if refused:
        name, file = refused[0]
        warnings.append(
            f"{len(refused)} names lead through another folder than {root}: {name!r} is not taken for its "
            f"{file!r}; give the folder that they start from"
        )
    return found, warnings


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


def _front(name: str, file: str) -> str:
    """The folders of a name in front of what it shares with its file; "" where it has none."""
    parts = _parts(name)
    return "/".join(parts[: max(0, len(parts) - len(_parts(file)))])


def _names_of(root: Path | str) -> set[str]:
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

    def __init__(self, files: Sequence[str]) -> None:
        self._whole: dict[str, list[str]] = defaultdict(list)
        for file in files:
            form = normal_form(file)
            for path in {form, without_ending(form)}:
                self._whole[path].append(file)
        self._files = files
        self._by_tail: dict[int, dict[str, list[str]]] = {}

    def fits(self, name: str, root: Path | str) -> list[str]:
        """The files that fit `name` best: its whole path, a path that ends in it, a path that it ends in."""
        parts = _parts(name)
        if ".." in parts:
            raise InputError(
                f"{root}: the image {name!r} leads out of its folder; only files inside it are read"
            )
        if not parts:
            return []
        written, parts = parts[-1], [normal_form(part) for part in parts]
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
    folder, slash, file = path.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)
