"""What is wanted of the log. Law: values alone, which cost no import; `protos.logs` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["auto", "json", "text"]


@dataclass(frozen=True)
class Logs:
    """Whose lines they are, how they look (`auto`: JSON, but text on a terminal), and where else they go.

    `otlp` is `http://HOST:PORT` of an OTLP/gRPC collector, or None.
    """

    service: str
    form: Form = "auto"
    otlp: str | None = None
