"""A cache: folders named by their content's key, each filled once, by whoever needs it first.

It lies in a folder of this machine, or, for the nodes of a cluster, at a URI that is mirrored here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from cohort.remote_files import fetch, inside, is_remote, mirror, publish


def filled(cache: Path | str, name: str, files: Sequence[str], fill: Callable[[Path], None]) -> Path:
    """The folder `name` of a cache, with `files` in it: as they lie there, or fetched, or filled now.

    Processes that need the same one make it once a machine, and where the cache is at a URI once for all of
    them but those that begin at the same moment.

    Args:
        files: the last of them says that all are there.
        fill: given the folder, puts them there, each whole or not at all.

    Raises:
        InputError: what `fill` raises, or a store at a URI that refuses.
    """
    folder = mirror(cache) / name
    if not (folder / files[-1]).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not (folder / files[-1]).exists():
                places = {file: inside(str(cache), f"{name}/{file}") for file in files}
                if not (is_remote(cache) and all(fetch(places[file], folder / file) for file in files)):
                    fill(folder)
                    for file in files if is_remote(cache) else ():
                        publish(folder / file, places[file])
    return folder
