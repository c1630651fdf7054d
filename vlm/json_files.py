"""JSON that comes with a model or a bundle: read up to a bound, and an object or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 2**20


def read_object(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The object in a file. ValueError, in one line, for anything else; OSError where it cannot be read."""
    if path.stat().st_size > most:
        raise ValueError(f"larger than {most // 2**20} MiB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content
