"""`headrace.yaml` as data that knows its lines. Law: a mistake is reported with the place where it was written.

YAML as PyYAML reads it, except that `true` and `false` alone are booleans, as in YAML 1.2: `on` is a key of ours. A key
that occurs twice is a mistake. Environment variables `HEADRACE_SECTION__KEY` lie over the file; their values are YAML,
too, so that lists and numbers can be given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

PREFIX: Final = "HEADRACE_"
Place = tuple[str | int, ...]

_BOOL: Final = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
        first: [(tag, form) for tag, form in resolvers if tag != _BOOL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|false)$"), ["t", "f"])


class SettingsError(Exception):
    """The configuration cannot be used; one line for each mistake: `FILE:LINE: where: what`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True)
class ConfigFile:
    """The file's data with the environment laid over it.

    `origins` tells where each part was written: place in the data -> `FILE:LINE`, or the variable's name.
    """

    path: Path
    data: dict[str, Any]
    origins: Mapping[tuple[str, ...], str] = field(repr=False)

    def mistake(self, place: Place, what: str) -> str:
        """The line that tells of a mistake at that place in the data."""
        steps = tuple(map(str, place))
        where = ".".join(steps)
        origin = next(self.origins[steps[:end]] for end in range(len(steps), -1, -1) if steps[:end] in self.origins)
        return f"{origin}: {where}: {what}" if where else f"{origin}: {what}"


def read(path: Path, environ: Mapping[str, str], sections: Collection[str]) -> ConfigFile:
    """The configuration as written; `sections` are the keys at its top. Raises SettingsError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError([f"{path}: cannot be read: {why}"]) from None
    origins: dict[tuple[str, ...], str] = {(): f"{path}:1"}
    data = _parse(text, str(path), origins)
    if data is None:
        raise SettingsError([f"{path}:1: the file is empty"])
    if not isinstance(data, dict):
        raise SettingsError([f"{path}:1: not a mapping of sections"])
    for name, value in sorted(environ.items()):
        place = tuple(name.removeprefix(PREFIX).lower().split("__"))
        # A cluster sets HEADRACE_PORT and the like for a service of that name: these are none of ours.
        if name.startswith(PREFIX) and (len(place) > 1 or place[0] in sections):
            _overlay(data, origins, place, name, value)
    return ConfigFile(path, data, origins)


def _overlay(
    data: dict[str, Any], origins: dict[tuple[str, ...], str], place: tuple[str, ...], name: str, value: str
) -> None:
    section = data
    for key in place[:-1]:
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            raise SettingsError([f"{name}: {key} is no section with keys: give all of it, as YAML"])
        origins.setdefault(place[: place.index(key) + 1], name)
    section[place[-1]] = _parse(value, name, {})
    for stale in [known for known in origins if known[: len(place)] == place]:
        del origins[stale]
    origins[place] = name


def _parse(text: str, source: str, origins: dict[tuple[str, ...], str]) -> Any:  # noqa: ANN401 - YAML holds anything
    """The value of one YAML document; fills in where its parts were written. Raises SettingsError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        mistakes = list(_walk(node, (), source, origins))
        if mistakes:
            raise SettingsError(mistakes)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError([f"{source}:{line}: {error.problem or 'no YAML'}"]) from None
    except RecursionError:
        raise SettingsError([f"{source}:1: something in it holds itself"]) from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError([f"{source}:1: no YAML: {error}"]) from None


def _walk(node: yaml.Node, place: tuple[str, ...], source: str, origins: dict[tuple[str, ...], str]) -> Iterator[str]:
    """Note the line of every part; yield a mistake for each key that occurs twice or is no scalar."""
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            line = f"{source}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                yield f"{line}: {'.'.join(place) or 'top level'}: a key is a word, not a list or a mapping"
                continue
            if key.value in seen:
                yield f"{line}: {'.'.join(place) or 'top level'}: {key.value} occurs twice"
                continue
            seen.add(key.value)
            origins[(*place, key.value)] = line
            yield from _walk(value, (*place, key.value), source, origins)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            origins[(*place, str(index))] = f"{source}:{item.start_mark.line + 1}"
            yield from _walk(item, (*place, str(index)), source, origins)
