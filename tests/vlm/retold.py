"""A bundle that was changed by someone who made its digests fit again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm.bundle_description import DESCRIPTION, digest_of, files_in, sha256_of


def retold(folder: Path, change: Callable[[dict[str, Any]], object] = lambda description: None) -> Path:
    """`change` is applied to bundle.json in place; returns the folder."""
    path = folder / DESCRIPTION
    description = json.loads(path.read_text())
    description["files"] = {name: sha256_of(folder / name) for name in files_in(folder)}
    change(description)
    path.write_text(json.dumps(description | {"digest": digest_of(description)}))
    return folder
