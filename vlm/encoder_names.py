"""How encoders are named, and what may be downloaded for one; imports nothing heavy, so that a study file is
read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path, PurePath

LOCAL = "local-dir:"
TIMM = "timm:"
TUNED = " (fine-tuned)"
"""What the name of an encoder ends in whose weights lie in a study's run folder or a bundle."""
PIXELS = "pixels"
COLOUR_PIXELS = "pixels:32x32x3"


class HubAccess(Enum):
    """What the Hugging Face hub may be asked for, and with what."""

    CACHE = "nothing: only what an earlier download left on this machine"
    ANONYMOUS = "anything, without the access token of this machine"
    NAMED = "the repository that the encoder's name says, with the token; others without it"


def split_path(name: str) -> tuple[str, str]:
    """What of a name is the path of a file or folder, and what stands before it; the path is empty where
    there is none."""
    if name.startswith(LOCAL):
        return LOCAL, name.removeprefix(LOCAL)
    if name.startswith(TIMM):
        before, at, path = name.partition("@")
        return before + at, path
    return name, ""


def resolved_name(name: str, folder: Path) -> str:
    """The name of the same encoder in every working directory: a relative path in it is taken from `folder`.

    Workers of a cluster do not stand in the folder that a study was started in.
    """
    before, path = split_path(name)
    return f"{before}{folder / Path(path).expanduser()}" if path else name


def name_in(folder: Path, name: str) -> str:
    """The name under which what an encoder's `save` wrote into `folder` is loaded again."""
    before, _ = split_path(name.removesuffix(TUNED))
    if before.startswith(TIMM):
        return f"{before.removesuffix('@')}@{folder / 'model.safetensors'}"
    return f"{LOCAL}{folder}"


def name_for(name: str, channels: int) -> str:
    """The encoder that a name means for images of 1 or 3 channels: `pixels` sees colour where there is."""
    return COLOUR_PIXELS if name == PIXELS and channels == 3 else name


def shown(name: str) -> str:
    """The name with the last part of its path alone, without the ending, as it stands in all that is passed
    on: where a folder lies on somebody's machine is nobody else's business."""
    before, path = split_path(name)
    return before + Path(path).name.removesuffix(".safetensors") if path else name


def shown_apart(names: Sequence[str]) -> list[str]:
    """Each as `shown`, with as many more parts of its path as tell it apart from the others."""
    split = [split_path(name) for name in names]
    tails = iter(distinct_names([path for _, path in split if path]))
    return [before + next(tails).removesuffix(".safetensors") if path else before for before, path in split]


def distinct_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path, with as many parts before it as no other path shares."""
    parts = [PurePath(path).parts for path in paths]

    def shortest(own: tuple[str, ...]) -> str:
        others = [other for other in parts if other != own]
        apart = (n for n in range(1, len(own)) if all(own[-n:] != other[-n:] for other in others))
        return str(PurePath(*own[-next(apart, len(own)) :]))

    return [shortest(own) for own in parts]
