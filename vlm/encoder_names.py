"""How encoders are named; imports nothing heavy, so that a study file is read without torch."""

from __future__ import annotations

from pathlib import Path

LOCAL = "local-dir:"
PIXELS = "pixels"
COLOUR_PIXELS = "pixels:32x32x3"


def resolved_name(name: str, folder: Path) -> str:
    """The name of the same encoder in every working directory: a relative path in it is taken from `folder`.

    Workers of a cluster do not stand in the folder that a study was started in.
    """
    if not name.startswith(LOCAL):
        return name
    return f"{LOCAL}{folder / Path(name.removeprefix(LOCAL)).expanduser()}"


def name_for(name: str, channels: int) -> str:
    """The encoder that a name means for images of 1 or 3 channels: `pixels` sees colour where there is."""
    return COLOUR_PIXELS if name == PIXELS and channels == 3 else name
