"""Resources as YAML, and where each part was written. Law: YAML is read as Istio reads it, and a key is written once.

Istio reads YAML 1.1 as go-yaml v2 does: an unquoted `y`, `no` or `on` is a boolean, `017` is 15, and `1:30` and
dates are texts. What comes out is JSON: every key is a text. (Of a key that occurs twice Istio would take the last.)
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mesh.istio.message import Place

_TAG: Final = "tag:yaml.org,2002:"
_BOOLS: Final = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"], False),
}
_INT: Final = re.compile(r"[-+]?(?:0[bB][01_]+|0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

_SPARE: Final = 1000


class RefusedError(Exception):
    """Resources that cannot be used; one line for each mistake: `FILE:LINE: KIND NAMESPACE/NAME: FIELD: what`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class _Loader(yaml.SafeLoader):
    """SafeLoader with go-yaml v2's idea of plain scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML declares it so

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:  # noqa: ANN401 - PyYAML's
        """The tag of a node; of a plain scalar, go-yaml's."""
        if kind is yaml.ScalarNode and implicit[0] and value is not None:
            return _TAG + _plain(value)
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call] # types-pyyaml has none

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        """A mapping by the texts of its keys."""
        self.flatten_mapping(node)
        return {
            _key(self.construct_object(key, deep=True)): self.construct_object(value, deep=deep)
            for key, value in node.value
        }


def _plain(value: str) -> str:
    if value in ("", "~", "null", "Null", "NULL"):
        return "null"
    if value in _BOOLS:
        return "bool"
    if value == "<<":
        return "merge"
    if _INT.fullmatch(value):
        return "int"
    return "float" if _FLOAT.fullmatch(value) or _SPECIAL_FLOAT.fullmatch(value) else "str"


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    legacy = re.fullmatch(r"([-+]?)0([0-7]+)", text)
    return int(f"{legacy[1]}0o{legacy[2]}" if legacy else text, 0)


def _bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return _BOOLS[loader.construct_scalar(node)]


_Loader.add_constructor(_TAG + "int", _int)
_Loader.add_constructor(_TAG + "bool", _bool)


@dataclass(frozen=True)
class Document:
    """One YAML document as JSON data, and the line of each of its parts."""

    source: str
    line: int
    data: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int] = field(repr=False)

    def position(self, place: Place = ()) -> str:
        """`FILE:LINE` of a part, or of the nearest part around it that was written."""
        steps = tuple(map(str, place))
        line = next(
            (self.lines[steps[:end]] for end in range(len(steps), 0, -1) if steps[:end] in self.lines), self.line
        )
        return f"{self.source}:{line}"


def read_documents(text: str, source: str) -> tuple[Document, ...]:
    """Every document of a file that is not empty. Raises RefusedError."""
    try:
        return tuple(_documents(text, source))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RefusedError([f"{source}:{line}: {error.problem or 'no YAML'}"]) from None
    except RecursionError:
        raise RefusedError([f"{source}:1: something in it holds itself, or is nested too deep"]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise RefusedError([f"{source}:1: no YAML: {error}"]) from None


def _documents(text: str, source: str) -> Iterator[Document]:
    loader = _Loader(text)
    left = _Budget(_SPARE + len(text))
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"):
                continue
            line = node.start_mark.line + 1
            if not isinstance(node, yaml.MappingNode):
                raise RefusedError([f"{source}:{line}: not a resource: a resource is a mapping"])
            lines: dict[tuple[str, ...], int] = {}
            mistakes = list(_walk(node, (), source, lines, left))
            if mistakes:
                raise RefusedError(mistakes)
            yield Document(source, line, loader.construct_document(node), lines)
    finally:
        loader.dispose()


@dataclass
class _Budget:
    """How many parts a file may still have. One without aliases has fewer than it has characters."""

    parts: int

    def spend(self, source: str) -> None:
        """One of them. Raises RefusedError."""
        self.parts -= 1
        if self.parts < 0:
            raise RefusedError([f"{source}:1: its aliases (*) make too much of it"])


def _walk(
    node: yaml.Node, place: tuple[str, ...], source: str, lines: dict[tuple[str, ...], int], left: _Budget
) -> Iterator[str]:
    """Note the line of every part; yield a mistake for each key that occurs twice or is no scalar."""
    left.spend(source)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            where = f"{source}:{line}: {'.'.join(place) or 'top level'}"
            if not isinstance(key, yaml.ScalarNode):
                yield f"{where}: a key is a word, not a list or a mapping"
                continue
            if key.value in seen:
                yield f"{where}: {key.value} occurs twice"
            seen.add(key.value)
            lines[(*place, key.value)] = line
            yield from _walk(value, (*place, key.value), source, lines, left)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*place, str(index))] = item.start_mark.line + 1
            yield from _walk(item, (*place, str(index)), source, lines, left)


def _key(key: object) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)
