"""Whose work it is that runs. Law: the boundary of a call says so, once; what is logged under it has the call's ids.

It follows the call into its tasks and threads (`asyncio.to_thread`), as context variables do.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Final, Protocol

from opentelemetry.trace import SpanContext


class OfCall(Protocol):
    """As much of a call as its lines tell."""

    @property
    def request_id(self) -> str:
        """The id that caller, gateway and worker know it by; empty while it has none."""
        ...

    @property
    def span_context(self) -> SpanContext:
        """Its place in a trace, in this process; invalid while it has none."""
        ...


_call: Final[ContextVar[OfCall | None]] = ContextVar("call", default=None)


def begin(call: OfCall) -> None:
    """What this task does from here on is the call's."""
    _call.set(call)


def now() -> OfCall | None:
    """The call whose work it is; None of what is nobody's."""
    return _call.get()


def nobodys() -> Context:
    """The context for a task that a call starts and that outlives it."""
    context = copy_context()
    context.run(_call.set, None)
    return context
