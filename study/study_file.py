"""A study file: read, with `--set` assignments put in, refused in one line; and as a study keeps its own."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from cohort.errors import InputError, shortened
from cohort.files import read_bounded
from cohort.limits import LARGEST_YAML
from cohort.yaml_files import BoundedLoader, parse_yaml, read_yaml
from study.config import StudyConfig
from study.credentials import masked

CHECKSUM = "# sha256 of the lines above: "


class _Loader(BoundedLoader):
    """PyYAML alone would read the number 1e-3 as a string (YAML 1.1 wants 1.0e-3)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> StudyConfig:
    """Read and validate a study file.

    Args:
        path: the YAML file.
        overrides: `a.b=value` assignments; the value is read as YAML.

    Raises:
        InputError: the file is missing or not YAML or larger than a study file may be, a key is unknown, a
            value breaks its rule.
    """
    path = Path(path)
    raw = read_yaml(path, "study file", _Loader)
    if not isinstance(raw, dict):
        raise InputError(
            f"{path}: a study file is a mapping of keys to values, with at least cohort and encoder"
        )
    raw.setdefault("name", path.stem)
    for assignment in overrides:
        _assign(raw, assignment)
    return validated(raw, source=str(path))


def validated(raw: dict[str, Any], source: str = "study") -> StudyConfig:
    """Validate a study's mapping.

    Raises:
        InputError: naming the first key at fault, the rule it breaks, its value, and a likely spelling.
    """
    try:
        config = StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError(_one_line(error, source)) from None
    # Imported here so that `radtune --help` and a typo in a key need no Optuna.
    space = importlib.import_module(f"search_spaces.{config.trainable}")
    try:
        space.check(config.search.fixed, config.search.ranges)
    except InputError as error:
        raise InputError(f"{source}: search: {error}") from None
    return config


def _assign(raw: dict[str, Any], assignment: str) -> None:
    # Neither OmegaConf (it merges mappings, expands ${...}) nor pydantic-settings (JSON values) serves here.
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise InputError(
            f"--set {shortened(assignment)}: expected KEY=VALUE, for example search.configurations=512"
        )
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise InputError(
            f"--set {shortened(assignment)}: {shortened('.'.join(parents))} is not a group of settings"
        )
    try:
        node[last] = parse_yaml(text, _Loader)
    except ValueError as error:
        raise InputError(f"--set {shortened(assignment)}: the value is not valid YAML ({error})") from None


def _one_line(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    location = [shortened(str(part)) for part in first["loc"]]
    key = ".".join(location)
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        if key in RENAMED:
            return f"{source}: {key} is called {RENAMED[key]} now{tail}"
        known = _fields_at(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{source}: unknown key {key}; {remedy}{tail}"
    if first["type"] == "missing":
        return f"{source}: the key {key} is missing; a study file needs at least cohort and encoder{tail}"
    rule = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"{source}: {rule}{tail}"
    if isinstance(first["input"], dict):  # a rule about a group of settings names its key itself
        return f"{source}: {key}: {rule}{tail}"
    rule = rule[0].lower() + rule[1:]
    return f"{source}: {key}: {rule}, but got {shortened(masked(repr(first['input'])))}{tail}"


def _fields_at(location: list[str]) -> list[str]:
    model: Any = StudyConfig
    for part in location:
        annotation = model.model_fields[part].annotation
        model = next((one for one in get_args(annotation) if one is not type(None)), annotation)
    return [field.name for field in fields(model)] if is_dataclass(model) else list(model.model_fields)


RENAMED = {
    "analysis.beside": "analysis.compare_with",
    "fine_tune.scheduler": "fine_tune.early_stopping",
    **{
        f"fine_tune.{name}": f"fine_tune.training.{name}"
        for name in ("batch_size", "patience", "warm_up", "clip_norm", "horizontal_flip")
    },
}
"""Keys of earlier study files, refused with their new names."""


def stored_file(config: StudyConfig) -> bytes:
    """`study.yaml` as a study's folder keeps it; its last line is a checksum, since half of a study file is a
    study file too, with defaults for what is missing."""
    content = config.to_yaml().encode()
    return content + f"{CHECKSUM}{hashlib.sha256(content).hexdigest()}\n".encode()


def load_stored(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> StudyConfig:
    """Read what `stored_file` made.

    Raises:
        InputError: as `load_config`, and where it is no longer what the study wrote.
    """
    above, checksum, below = read_bounded(path, LARGEST_YAML, "shorten it").rpartition(CHECKSUM.encode())
    if not checksum or below.strip().decode(errors="replace") != hashlib.sha256(above).hexdigest():
        raise InputError(
            f"{path}: not what the study wrote, damaged or edited; put back the one that the study's run in "
            "MLflow keeps. Settings are changed by `radtune run STUDY.yaml --resume`"
        )
    return load_config(path, overrides)
