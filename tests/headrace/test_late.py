"""Lines of the Envoy in front become spans, whatever is in them."""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headrace.late import Teller
from mesh.express.late import BEFORE, BEGAN, TOLD, TOOK, UPSTREAM
from protos import tracing
from protos.spans import Spans
from tests.kept import Kept

WELL = {
    TOLD: f"00-{'a1' * 16}-{'b2' * 8}-00",
    BEGAN: "1700000000.000001",
    TOOK: 2_000,
    BEFORE: 100,
    UPSTREAM: 1_500,
    tracing.RPC_STATUS: "INTERNAL",
}


class Taken:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.spans = Spans("test", Kept(self._exporter), sample=0.0, clock=lambda: 0.0)
        self._teller = Teller(self.spans, {tracing.RPC_METHOD: "S/M"})

    def take(self, *lines: bytes) -> tuple[ReadableSpan, ...]:
        self._teller.take(b"".join(line + b"\n" for line in lines))
        return self._exporter.get_finished_spans()


def line(**more: object) -> bytes:
    return json.dumps(WELL | more).encode()


def test_what_a_line_says_two_spans_say() -> None:
    server, client = Taken().take(line())
    assert server.attributes is not None
    assert server.attributes[tracing.RPC_STATUS] == server.attributes[tracing.ERROR_TYPE] == "INTERNAL"
    assert (server.start_time, server.end_time) == (1_700_000_000_000_001_024, 1_700_000_000_002_001_024)
    assert (client.start_time, client.end_time) == (1_700_000_000_000_101_024, 1_700_000_000_001_601_024)


def test_statuses_that_a_worker_has_made_up_are_one_kind() -> None:
    """Or each of them would have room of its own, and be remembered for ever."""
    taken = Taken()
    spans = taken.take(*(line(**{tracing.RPC_STATUS: f"made up {number}"}) for number in range(1_000)))
    assert len(spans) == 2 * 100
    assert {span.attributes and span.attributes[tracing.RPC_STATUS] for span in spans} == {"UNKNOWN"}
    assert len(taken.spans._room) == 1


@pytest.mark.parametrize(
    "bad",
    [
        *(b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff", b"[" * 100_000, b"9" * 10_000),
        *(line(**{TOOK: float(number)}) for number in ("inf", "-inf", "nan", "1e300")),
        *(line(**{BEGAN: number}) for number in ("inf", "nan", "1e300", "-1", "now", None)),
        *(line(**{name: 10**400}) for name in (TOOK, BEFORE, UPSTREAM)),
        *(line(**{name: float("inf")}) for name in (BEFORE, UPSTREAM)),
    ],
    ids=lambda bad: repr(bad[-24:]),
)
def test_a_line_that_nobody_can_read_is_none_and_the_next_one_is_told(bad: bytes) -> None:
    spans = Taken().take(bad, line(**{tracing.REASON: "next"}))
    told = [span for span in spans if span.attributes and span.attributes.get(tracing.REASON) == "next"]
    assert len(told) == len(spans) == 2
