"""YAML that a stranger may have written: plain values, of a bounded size and depth, and without aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cohort.errors import InputError, shortened
from cohort.files import read_bounded
from cohort.limits import DEEPEST_YAML, LARGEST_YAML, LONGEST_NUMBER


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which alone would put an alias of aliases together, look for the end of 20,000
    brackets for minutes, and make a number of any length."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken; write the text out")
        if self._depth == DEEPEST_YAML:
            raise yaml.YAMLError(f"nested more than {DEEPEST_YAML} deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        of_text = node.tag.endswith((":str", ":binary"))
        if isinstance(node, yaml.ScalarNode) and not of_text and len(node.value) > LONGEST_NUMBER:
            raise yaml.YAMLError(f"a number or date of more than {LONGEST_NUMBER} characters")
        return super().construct_object(node, deep)


# What PyYAML's constructors raise where a scalar is not of the kind that its tag says, `!!bool maybe` say.
_WRONG_KIND = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


def parse_yaml(text: str | bytes, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """The value of a YAML document; ValueError, in one line, where it is none or breaks a limit."""
    try:
        return yaml.load(text, loader)
    except (yaml.YAMLError, *_WRONG_KIND) as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_yaml(path: Path, what: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """The value in a YAML file, UTF-8; InputError, in one line, for whatever is none.

    Args:
        what: the file is, `study file` say, for the message where it is not there.
    """
    where = shortened(str(path))
    try:
        return parse_yaml(read_bounded(path, LARGEST_YAML, "shorten it"), loader)
    except FileNotFoundError:
        raise InputError(f"{where}: no such {what}") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); give a YAML file") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where}: not valid YAML ({error})") from error
