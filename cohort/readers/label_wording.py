"""`--label-names`: other words for labels, such as `melanocytic nevus` for `nv`, as typed or from a file.

    nv=melanocytic nevus,mel=melanoma

or a YAML file, which may give the sentences for a text tower as well:

    nv: melanocytic nevus
    mel: {name: melanoma, prompts: [a dermoscopic image of a melanoma, a dark lesion with irregular borders]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cohort.errors import InputError
from cohort.readers.name_lists import cells

_FIELDS = ("name", "prompts")


def read_wording(text: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Label -> name and label -> prompts, from what stands behind `--label-names`.

    Whether the labels are there and the words are fit to print, `cohort.labels.check_wording` says. Raises
    InputError for what is neither LABEL=NAME,... nor the path of a readable YAML file of this kind.
    """
    if text.lower().endswith((".yaml", ".yml")):
        return _from_fields(_mapping(Path(text)), text)
    names: dict[str, str] = {}
    for part in cells(text):
        label, equals, name = (piece.strip() for piece in part.partition("="))
        if not (label and equals and name):
            raise InputError(
                f"--label-names {part!r}: expected LABEL=NAME,LABEL=NAME "
                "or the path of a .yaml file; a name that holds a comma needs quotes"
            )
        if label in names:
            raise InputError(f"--label-names: label {label!r} is named twice; name it once")
        names[label] = name
    return names, {}


def _mapping(path: Path) -> dict[Any, Any]:
    from cohort.yaml_files import read_yaml

    content = read_yaml(path, "file of label names")
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a line `label: name` for each label")
    return content


def _from_fields(content: dict[Any, Any], where: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    names, prompts = {}, {}
    for label, said in content.items():
        if not isinstance(label, str):
            raise InputError(f"{where}: label {label!r} is no text to YAML; put it in quotes")
        fields = said if isinstance(said, dict) else {"name": said}
        if unknown := [field for field in fields if field not in _FIELDS]:
            raise InputError(f"{where}: label {label!r} may have {' and '.join(_FIELDS)}, not {unknown[0]!r}")
        if "name" in fields:
            names[label] = _line(fields["name"], label, where)
        if "prompts" in fields:
            if not isinstance(fields["prompts"], list):
                raise InputError(f"{where}: the prompts of label {label!r} must be a list, [.., ..]")
            prompts[label] = tuple(_line(prompt, label, where) for prompt in fields["prompts"])
    return names, prompts


def _line(value: Any, label: str, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(
            f"{where}: name and prompts of label {label!r} must be text, not {type(value).__name__}; put "
            "them in quotes"
        )
    return value.strip()
