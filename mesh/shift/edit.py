"""Numbers changed in YAML. Law: what is not a weight stays as it was written, to the last blank.

The text is cut at the marks that PyYAML sets on its nodes. A weight that is not there is written behind the destination
that it is for, in the style around it: `{destination: ..., weight: 20}`, or a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import yaml

Step = str | int
Place = tuple[Step, ...]
Span = tuple[int, int]

_PROPERTIES: Final = re.compile(r"^(?:[&!]\S*\s+)*")  # an anchor, a tag
_ALIAS: Final = re.compile(r"\s*:\s*\*[^\s,\[\]{}]+")
_BESIDE: Final = "destination"
"""The key that a weight is written behind."""


class UneditableError(Exception):
    """The text is written in a way that does not let single numbers be changed."""


def edited(text: str, document: int, numbers: Mapping[Place, int]) -> str:
    """The text with these numbers in one of its documents (those that are mappings count). Raises UneditableError."""
    nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if isinstance(node, yaml.MappingNode)]
    changes: dict[Span, str] = {}
    for place, number in numbers.items():
        span, written = _change(text, _at(nodes[document], place[:-1]), str(place[-1]), number)
        if changes.setdefault(span, written) != written:
            raise UneditableError("two weights are one number there, by an alias: write each out")
    for (start, end), written in sorted(changes.items(), reverse=True):
        text = text[:start] + written + text[end:]
    return text


def _at(node: yaml.Node, place: Iterable[Step]) -> yaml.MappingNode:
    for step in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
        elif isinstance(node, yaml.MappingNode) and (pair := _pair(node, str(step))):
            _, node = pair
        else:
            raise UneditableError("the routes are merged from elsewhere: write them out")
    if not isinstance(node, yaml.MappingNode):
        raise UneditableError("there is no destination where one was")
    return node


def _pair(node: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next((pair for pair in node.value if pair[0].value == name), None)


def _change(text: str, mapping: yaml.MappingNode, name: str, number: int) -> tuple[Span, str]:
    """Which part of the text becomes what."""
    if pair := _pair(mapping, name):
        return _replacement(text, *pair, number)
    if beside := _pair(mapping, _BESIDE):
        return _insertion(text, mapping, beside, (name, number))
    raise UneditableError("a destination is merged from elsewhere: write it out")


def _replacement(text: str, key: yaml.Node, value: yaml.Node, number: int) -> tuple[Span, str]:
    start, end = value.start_mark.index, value.end_mark.index
    if start < key.start_mark.index or not isinstance(value, yaml.ScalarNode) or value.style in ("|", ">"):
        raise UneditableError("a weight is an alias or a block there: write the number out")
    written = _PROPERTIES.sub("", text[start:end], count=1)
    quote = value.style or ""
    return (end - len(written), end), f"{quote}{number}{quote}" if written else f" {number}"


def _insertion(
    text: str, mapping: yaml.MappingNode, beside: tuple[yaml.Node, yaml.Node], entry: tuple[str, int]
) -> tuple[Span, str]:
    (key, _), (name, number) = beside, entry
    end = _end(text, *beside)
    if mapping.flow_style:
        quote = (isinstance(key, yaml.ScalarNode) and key.style) or ""  # JSON's keys are quoted
        return (end, end), f", {quote}{name}{quote}: {number}"
    end += len(text[end:].partition("\n")[0].removesuffix("\r"))
    newline = "\r\n" if "\r\n" in text else "\n"
    return (end, end), f"{newline}{' ' * key.start_mark.column}{name}: {number}"


def _end(text: str, key: yaml.Node, value: yaml.Node) -> int:
    """Where an entry of a mapping ends, without the comments and blanks behind it."""
    if value.start_mark.index < key.start_mark.index:
        alias = _ALIAS.match(text, key.end_mark.index)
        return alias.end() if alias else key.end_mark.index
    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        return _end(text, *value.value[-1])
    return value.end_mark.index
