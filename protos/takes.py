"""What a collector takes. Law: who does not take a signal is asked, told of once, and sent none.

Jaeger, for one, takes spans alone.
"""

from __future__ import annotations

from typing import Final

import grpc

METRICS: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_TLS: Final = grpc.ssl_channel_credentials()
_WITHIN: Final = 1.0  # seconds


def refused(otlp: str, export: str) -> bool:
    """Whether the collector at `http://HOST:PORT` or `https://` says that it has no such method; blocks."""
    scheme, _, target = otlp.rstrip("/").partition("://")
    with grpc.insecure_channel(target) if scheme == "http" else grpc.secure_channel(target, _TLS) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(export)
        return call.future(b"", timeout=_WITHIN).code() is grpc.StatusCode.UNIMPLEMENTED
