"""Resources as YAML. Law: whoever reads it, by YAML 1.1 or 1.2, reads the same; it begins with who wrote it.

Istio reads YAML as go-yaml v2 does, which takes more plain words for something else than a text than PyYAML knows of
(`y`, `1e3`, `0o17`): they are quoted, too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

import yaml

from mesh.render.resource import Fields

_MARK: Final = "# Written by headrace mesh render"
_COMMENT: Final = f"{_MARK}: edits are lost the next time, but for the weights of default routes.\n"


class _Dumper(yaml.SafeDumper):
    """SafeDumper that writes out what occurs twice, and quotes what go-yaml would not take for a text."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        """No anchors, whatever is the same."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A text of several lines stands line by line."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
for _tag, _form, _first in (
    ("bool", r"[yYnN]", "yYnN"),
    ("int", r"[-+]?0(?:[bB][01_]+|[xX][0-9a-fA-F_]+|[oO]?[0-7_]+)", "-+0"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})$"), list(_first))


def file_of(resources: Iterable[Fields]) -> str:
    """A file of resources."""
    return _COMMENT + yaml.dump_all(resources, Dumper=_Dumper, sort_keys=False, width=sys.maxsize)


def is_ours(text: str) -> bool:
    """Whether the file was written by `file_of`, whatever has been changed in it since."""
    return text.startswith(_MARK)
