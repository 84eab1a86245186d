"""Which input is meant. Law: it is the one that is named, or the only one left; else all are told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from headrace.failure import CommandError
from headrace.tensors import Wanted


@dataclass(frozen=True)
class Wants:
    """A model's name and its inputs."""

    model: str
    inputs: tuple[Wanted, ...]

    def called(self, name: str, where: str) -> Wanted:
        """The input of this name. Raises CommandError."""
        for one in self.inputs:
            if one.name == name:
                return one
        raise CommandError(f"{where}: {self.model} has no input {name}; it takes {self}")

    def only(self, given: Collection[str], what: str) -> Wanted:
        """The only input that is not given yet. Raises CommandError."""
        left = [one for one in self.inputs if one.name not in given]
        if len(left) != 1:
            raise CommandError(f"for which input is {what}? {self.model} takes {self}: write NAME=FILE")
        return left[0]

    def __str__(self) -> str:
        return ", ".join(map(str, self.inputs)) or "none"
