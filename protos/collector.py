"""The OpenTelemetry collector that we send to. Law: how it is reached, and what it takes, is said here for all signals.

Who does not take a signal is asked, told of once, and sent none: Jaeger, for one, takes spans alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypedDict

import grpc

METRICS: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
WITHIN: Final = 5.0  # seconds in which it must take an export
_ANSWERS_WITHIN: Final = 1.0  # seconds
_TLS: Final = grpc.ssl_channel_credentials()


class Options(TypedDict):
    """What OpenTelemetry's exporters are given."""

    endpoint: str
    insecure: bool
    timeout: float


def options(otlp: str) -> Options:
    """Of the collector at `http://HOST:PORT`, or `https://`."""
    return {"endpoint": otlp, "insecure": otlp.startswith("http://"), "timeout": WITHIN}


class Takes:
    """Whether the collector takes a signal, of which `export` is the method; `words` is what it would not take.

    It is asked no more often than every so many seconds of `clock` (monotonic).
    """

    def __init__(
        self, otlp: str, export: str, words: str, log: logging.Logger, clock: Callable[[], float], every: float = 0.0
    ) -> None:
        self._otlp = otlp
        self._export = export
        self._words = words
        self._log = log
        self._clock = clock
        self._every = every
        self._ask_at = float("-inf")
        self._refused = self._told = False

    def none(self) -> bool:
        """Whether it takes none; blocks while it is asked."""
        if (now := self._clock()) >= self._ask_at:
            self._refused = _refused(self._otlp, self._export)
            self._ask_at = now + self._every
            if self._refused and not self._told:
                self._told = True
                self._log.info("%s takes no %s: they are not sent", self._otlp, self._words)
        return self._refused


def _refused(otlp: str, export: str) -> bool:
    """Whether the collector says that it has no such method."""
    scheme, _, target = otlp.rstrip("/").partition("://")
    with grpc.insecure_channel(target) if scheme == "http" else grpc.secure_channel(target, _TLS) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(export)
        return call.future(b"", timeout=_ANSWERS_WITHIN).code() is grpc.StatusCode.UNIMPLEMENTED
