"""Traces asked for: of a Jaeger, or of our collector. Law: an answer is read or told of; nothing that comes is trusted.

Jaeger is asked service by service, since it lists no traces of all of them.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final, TypeVar

from headrace.failure import CommandError
from headrace.traces import read
from headrace.traces.spans import Span
from mesh.catalog import is_loopback
from protos import tracing

JAEGER: Final = "http://127.0.0.1:16686"
SHORT: Final = 8  # digits by which a trace of the list is known
_DIGITS: Final = 32  # of an id
_TIMEOUT: Final = 10.0  # seconds
_LARGEST: Final = 64 * 1024 * 1024  # bytes of an answer
_MOST_SERVICES: Final = 50
_AMONG: Final = 200  # traces of a service among which a shortened id is looked for
_OF_JAEGER: Final = ("jaeger", "jaeger-all-in-one", "jaeger-query", "jaeger-collector")  # it traces what it is asked
_HELP: Final = "start headrace demo --stay or headrace collector, or name a Jaeger with --from"

T = TypeVar("T")
Traces = Sequence[Sequence[Span]]


@dataclass(frozen=True)
class Wanted:
    """Which traces: of one service or (empty) of all; `slow`: seconds that a span took at least.

    `request_id`: of a call.
    """

    service: str = ""
    model: str = ""
    errors: bool = False
    slow: float = 0
    limit: int = 20
    request_id: str = ""

    def parameters(self, service: str) -> Mapping[str, str]:
        """As Jaeger asks for it: one span of the service is as all of it says."""
        tags = {tracing.MODEL: self.model} if self.model else {}
        tags |= {"error": "true"} if self.errors else {}
        tags |= {tracing.REQUEST_ID: self.request_id} if self.request_id else {}
        slow = {"minDuration": f"{round(self.slow * 1e6)}us"} if self.slow else {}
        told = {"tags": json.dumps(tags)} if tags else {}
        return {"service": service, "limit": str(self.limit), **told, **slow}


class Source:
    """A Jaeger's query API, or ours, at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def last(self, wanted: Wanted) -> Traces:
        """The latest traces, the latest first. Raises CommandError."""
        found: dict[str, Sequence[Span]] = {}
        for service in [wanted.service] if wanted.service else self._services():
            parameters = urllib.parse.urlencode(wanted.parameters(service))
            found |= {spans[0].trace: spans for spans in self._traces(f"?{parameters}") if spans}
        latest = sorted(found.values(), key=lambda spans: min(span.start for span in spans), reverse=True)
        return latest[: wanted.limit]

    def one(self, sought: str) -> Sequence[Span]:
        """The spans of a trace, by its id, which may be shortened, or by the id of a request. Raises CommandError."""
        if whole := next(filter(None, self._traces(f"/{sought}")), None):
            return whole
        if SHORT <= len(sought) < _DIGITS:
            return self._begins(sought)
        if of_call := self.last(Wanted(request_id=sought, limit=1)):
            return of_call[0]
        raise CommandError(f"{self.url} has no trace or request {sought}; headrace trace lists the last traces")

    def _begins(self, digits: str) -> Sequence[Span]:
        found = [spans for spans in self.last(Wanted(limit=_AMONG)) if spans[0].trace.startswith(digits)]
        if len(found) != 1:
            number = len(found) or "none"
            raise CommandError(f"{number} of the last traces at {self.url} begin with {digits}; give all 32 digits")
        return found[0]

    def _services(self) -> Sequence[str]:
        services = [name for name in self._read("/api/services", read.services) if name not in _OF_JAEGER]
        if len(services) > _MOST_SERVICES:
            raise CommandError(f"{self.url} knows {len(services)} services; name one with --service")
        return services

    def _traces(self, what: str) -> Traces:
        return self._read(f"/api/traces{what}", read.traces)

    def _read(self, path: str, reader: Callable[[bytes], Sequence[T]]) -> Sequence[T]:
        """What the answer says; nothing where it is that there is nothing. Raises CommandError."""
        try:
            status, body = self._answer(path)
            if status in (200, 404):
                return reader(body)
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"nobody answers at {self.url} ({_reason(error)}); {_HELP}") from None
        except read.NotJaeger as error:
            raise CommandError(f"the answer of {self.url} is no Jaeger's ({error}); {_HELP}") from None
        raise CommandError(f"{self.url} answers with HTTP status {status}{_words(body)}")

    def _answer(self, path: str) -> tuple[int, bytes]:
        """Raises OSError, http.client.HTTPException, NotJaeger."""
        here = is_loopback(urllib.parse.urlsplit(self.url).hostname or "")  # to which a proxy is of no use
        handlers = [urllib.request.ProxyHandler({})] if here else []
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(f"{self.url}{path}", timeout=_TIMEOUT) as response:
                return 200, _bounded(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _bounded(error)


def _bounded(response: IO[bytes]) -> bytes:
    body = response.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise read.NotJaeger(f"over {_LARGEST // 2**20} MiB: ask for less with --limit")
    return body


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _words(body: bytes) -> str:
    """What Jaeger says of an error."""
    try:
        return f": {json.loads(body)['errors'][0]['msg']}"
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        return ""
