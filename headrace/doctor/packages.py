"""Python and the packages. Law: what headrace's own metadata asks for is compared; nothing is imported that may lack.

Versions are compared by their leading numbers: our bounds are of that form (https://peps.python.org/pep-0440/).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError
from typing import Final

from headrace.doctor.finding import Finding, Level

FindDistribution = Callable[[str], Distribution]

_AREA: Final = "packages"
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;()]*)\)?\s*(?:;(.*))?")
_BOUND: Final = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9.]+)")


@dataclass(frozen=True)
class Requirement:
    """A package that is asked for: within which bounds, `>=6.33,<7`, and whether an extra alone asks for it."""

    name: str
    bounds: str
    optional: bool

    @property
    def install(self) -> str:
        """What to do to have it."""
        return f"run pip install '{self.name}{self.bounds}'"

    def admits(self, version: str) -> bool:
        """Whether a version is within the bounds."""
        return _within(_numbers(version), self.bounds)


def packages(find_distribution: FindDistribution, python: Sequence[int]) -> Iterator[Finding]:
    """Whether Python and all that headrace needs are here, in versions that it takes."""
    try:
        ours = find_distribution("headrace")
    except PackageNotFoundError:
        yield Finding(_AREA, "error", "headrace itself is not installed in this Python", "run pip install headrace")
        return
    yield _python(str(ours.metadata["Requires-Python"] or ""), tuple(python))
    wrong = [finding for one in required(ours.requires or ()) if (finding := _checked(one, find_distribution))]
    yield from wrong
    if not any(finding.level == "error" for finding in wrong):
        seen = ", ".join(f"{name} {find_distribution(name).version}" for name in ("grpcio", "protobuf", "aiohttp"))
        yield Finding(_AREA, "ok", f"headrace {ours.version} and its packages are installed ({seen})")


def required(requires: Iterable[str]) -> list[Requirement]:
    """The requirements, as metadata writes them."""
    matches = filter(None, map(_REQUIREMENT.match, requires))
    return [Requirement(one[1], one[2].strip(), "extra" in (one[3] or "")) for one in matches]


def needed(name: str, find_distribution: FindDistribution) -> str:
    """What to do to have a package, in a version that headrace takes."""
    try:
        requires = find_distribution("headrace").requires or ()
    except PackageNotFoundError:
        requires = ()
    mine = [one for one in required(requires) if one.name.lower() == name.lower()]
    return (mine or [Requirement(name, "", optional=False)])[0].install


def _checked(one: Requirement, find_distribution: FindDistribution) -> Finding | None:
    """What is wrong with a package, if anything; one that an extra asks for may be absent."""
    level: Level = "warning" if one.optional else "error"
    try:
        version = find_distribution(one.name).version
    except PackageNotFoundError:
        return None if one.optional else Finding(_AREA, level, f"the package {one.name} is not installed", one.install)
    if one.admits(version):
        return None
    return Finding(_AREA, level, f"{one.name} is {version}, but headrace needs {one.bounds}", one.install)


def _python(bounds: str, python: tuple[int, ...]) -> Finding:
    version = ".".join(map(str, python))
    if _within(python, bounds):
        return Finding(_AREA, "ok", f"Python {version}")
    return Finding(_AREA, "error", f"Python is {version}, but headrace needs {bounds}", f"use a Python {bounds}")


def _within(version: tuple[int, ...], bounds: str) -> bool:
    return all(_holds(version, relation, _numbers(bound)) for relation, bound in _BOUND.findall(bounds))


def _holds(version: tuple[int, ...], relation: str, bound: tuple[int, ...]) -> bool:
    length = max(len(version), len(bound))
    one, other = ((*each, *[0] * (length - len(each))) for each in (version, bound))
    holds = {">=": one >= other, "<=": one <= other, "==": one == other, "!=": one != other}
    return {**holds, "<": one < other, ">": one > other}[relation]


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
