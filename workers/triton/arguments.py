"""How Triton is told to run. Law: a pure function of what was asked for; what suits a gateway in front is said here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from protos.log_settings import Form
from workers.triton.installed import Server

_TRACES: Final = "/v1/traces"  # https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
_LEVEL: Final = "TIMESTAMPS"


@dataclass(frozen=True, slots=True)
class Options:
    """What the launcher is told.

    `server` is a tritonserver, None for that of the extra; `otlp` where spans go by OTLP/HTTP (`http://HOST:PORT`),
    None for nowhere; `drain` how many seconds running calls have to finish; `metrics` an address, None for none; `more`
    are further options of tritonserver's own, which come last; `log_format` is how our own log lines look.
    """

    repository: Path
    listen: str = "127.0.0.1:8001"
    server: Path | None = None
    otlp: str | None = None
    service: str = "headrace-triton"
    drain: float = 30.0
    metrics: str | None = None
    more: tuple[str, ...] = ()
    log_format: Form = "auto"


def arguments(
    options: Options, server: Server, scratch: Path, repository: Path, *, rate_limited: bool, gpu: bool
) -> list[str]:
    """The options of tritonserver.

    Models are loaded and unloaded by who may manage them; one that cannot be loaded ends nothing, so that its reason
    can be asked for. Who asks whether a connection still lives may do so every 10 s.
    """
    made = {
        "model-repository": str(repository),
        "backend-directory": str(server.folder),
        "model-control-mode": "explicit",
        "load-model": "*",
        "exit-on-error": "false",
        "exit-timeout-secs": str(math.ceil(options.drain)),
        "rate-limit": "execution_count" if rate_limited else "off",
        "backend-config": f"python,shm-region-prefix-name={scratch.name}-",
        "log-info": "false",
        "log-format": "ISO8601",
        **({} if gpu else {"pinned-memory-pool-byte-size": "0"}),  # which it would try to have, and complain
        "allow-grpc": "true",
        **_at("grpc", options.listen),
        "grpc-http2-min-recv-ping-interval-without-data": "10000",
        "grpc-keepalive-permit-without-calls": "1",
        "allow-http": "false",
        "allow-metrics": str(options.metrics is not None).lower(),
        **(_at("metrics", options.metrics) if options.metrics else {}),
    }
    return [f"--{key}={value}" for key, value in made.items()] + _tracing(options) + list(options.more)


def _at(what: str, address: str) -> dict[str, str]:
    host, _, port = address.rpartition(":")
    return {f"{what}-address": host, f"{what}-port": port}


def _tracing(options: Options) -> list[str]:
    """Spans of calls that come with a trace's context, and of no others (`rate=0`): the gateway draws."""
    if options.otlp is None:
        return []
    url = options.otlp if urlsplit(options.otlp).path.strip("/") else options.otlp.rstrip("/") + _TRACES
    settings = ("mode=opentelemetry", "rate=0", f"level={_LEVEL}")
    of_mode = (f"url={url}", f"resource=service.name={options.service}")
    return [f"--trace-config={each}" for each in (*settings, *(f"opentelemetry,{one}" for one in of_mode))]
