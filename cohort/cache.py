"""A cache: folders named by their content's key, each filled once, by whoever needs it first.

It lies in a folder of this machine, or, for the nodes of a cluster, at a URI that is mirrored here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from cohort.remote_files import fetch, inside, is_remote, mirror, publish


def filled(cache: Path | str, name: str, file: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` of a cache, with `file` in it: as it lies there, or fetched, or filled now.

    Processes that need the same one make it once a machine, and where the cache is at a URI once for all of
    them but those that begin at the same moment.

    Args:
        fill: given the folder, puts `file` there whole or not at all.

    Raises:
        InputError: what `fill` raises, or a store at a URI that refuses.
    """
    folder = mirror(cache) / name
    if not (folder / file).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not (folder / file).exists():
                place = inside(str(cache), f"{name}/{file}")
                if not (is_remote(cache) and fetch(place, folder / file)):
                    fill(folder)
                    if is_remote(cache):
                        publish(folder / file, place)
    return folder
