"""What a call's time in the gateway goes to. Law: it is in one phase at a time, and what it costs to say so is a clock.

A stream is in the phase of the message that is being read and handed on; a phase that comes again adds to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum


class Phase(IntEnum):
    """In the order in which a unary call goes through them."""

    VERIFY = 0  # the token
    READ = 1  # the caller's message
    AUTHORIZE = 2
    CHOOSE = 3  # the version and its copies
    ADMIT = 4  # limits and admission, which refuse and do not wait
    UPSTREAM = 5  # a worker has it, or a mesh before one
    ANSWER = 6

    @property
    def word(self) -> str:
        """As attributes have it."""
        return self.name.lower()


class Phases:
    """Where a call is, and the seconds in which it was elsewhere; `clock` is monotonic, in seconds."""

    __slots__ = ("_clock", "_since", "_spent", "now")

    def __init__(self, clock: Callable[[], float], began: float) -> None:
        self.now = Phase.VERIFY
        self._clock = clock
        self._since = began
        self._spent = [0.0] * len(Phase)

    def enter(self, phase: Phase) -> None:
        """From now on it is in this one."""
        now = self._clock()
        self._spent[self.now] += now - self._since
        self.now, self._since = phase, now

    def spent(self) -> Iterator[tuple[Phase, float]]:
        """The seconds of each phase that it was in."""
        self.enter(self.now)
        return ((phase, self._spent[phase]) for phase in Phase if self._spent[phase])
