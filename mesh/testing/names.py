"""Workloads by name. Law: a name that could be two workloads' is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from mesh.local.workloads import Key

T = TypeVar("T")


class Named(Mapping[str, T]):
    """What belongs to workloads, by `NAME.NAMESPACE`, or by NAME alone where that is clear."""

    def __init__(self, found: Mapping[Key, T]) -> None:
        self._found = {f"{name}.{namespace}": (name, value) for (namespace, name), value in found.items()}

    def __getitem__(self, name: str) -> T:
        """KeyError: there is none, or more than one."""
        if name in self._found:
            return self._found[name][1]
        values = [value for short, value in self._found.values() if short == name]
        if len(values) != 1:
            there = ", ".join(self._found) or "none"
            raise KeyError(f"{'no' if not values else 'more than one'} workload {name}; there are: {there}")
        return values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
