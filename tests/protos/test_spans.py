"""Which spans are kept, once calls have ended."""

from __future__ import annotations

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from protos import tracing
from protos.spans import Made, Place, Spans
from protos.tracing import NOTHING
from tests.kept import Kept


class World:
    def __init__(self, sample: float = 0.0) -> None:
        self.exporter = InMemorySpanExporter()
        self.now = 0.0
        self.lost = 0
        self.spans = Spans(
            "test",
            Kept(self.exporter),
            sample=sample,
            slow=1.0,
            clock=lambda: self.now,
            lost=lambda _signal: self._lose(),
        )

    def _lose(self) -> None:
        self.lost += 1

    def keeps(self, failure: str = "", seconds: float = 0.1) -> bool:
        return self.spans.keeps(self.spans.begin(NOTHING), failure, seconds)


def test_what_is_not_sampled_is_kept_where_it_fails_or_is_slow() -> None:
    world = World()
    assert [world.keeps(), world.keeps(seconds=0.99)] == [False, False]
    assert [world.keeps("INTERNAL"), world.keeps(seconds=1.0)] == [True, True]
    assert world.lost == 0


def test_what_is_sampled_is_kept_however_it_ends_and_however_many_fail() -> None:
    world = World(sample=1.0)
    assert all(world.keeps("TOKEN_MISSING") for _ in range(500))
    assert world.keeps()


def test_without_a_sender_nothing_is_kept() -> None:
    spans = Spans("test", sample=1.0)
    assert not spans.keeps(spans.begin(NOTHING), "INTERNAL", 60.0)


def test_a_flood_of_one_kind_leaves_a_trickle_room_for_the_others_and_a_count() -> None:
    world = World()
    kept = sum(world.keeps("TOKEN_MISSING") for _ in range(1000))
    assert (kept, world.lost) == (100, 900)
    assert world.keeps("INTERNAL")
    world.now = 2.0
    assert sum(world.keeps("TOKEN_MISSING") for _ in range(1000)) == 40
    world.now = 1000.0
    assert sum(world.keeps("TOKEN_MISSING") for _ in range(1000)) == 100


def test_a_span_made_late_has_the_ids_that_were_told_on() -> None:
    world = World()
    place = world.spans.begin(NOTHING)
    told = dict(tracing.words(place.context))["traceparent"]
    child = world.spans.under(place.context)
    for each, kind in ((place, SpanKind.SERVER), (child, SpanKind.CLIENT)):
        world.spans.add(
            Made("call", kind, each, 1, 2, {"a": "b" * 5000}, Status(StatusCode.ERROR, "why"), [place.context])
        )
    server, client = world.exporter.get_finished_spans()
    assert told == f"00-{server.context.trace_id:032x}-{server.context.span_id:016x}-02"
    assert server.context.trace_flags.sampled
    assert (server.parent, client.parent.span_id) == (None, server.context.span_id)
    assert (server.start_time, server.end_time, server.status.description) == (1, 2, "why")
    assert len(server.attributes["a"]) == tracing.LONGEST
    assert [link.context.span_id for link in client.links] == [server.context.span_id]


def test_a_trace_that_another_began_says_so() -> None:
    world = World()
    given = tracing.extract([("traceparent", "00-" + "a1" * 16 + "-" + "b2" * 8 + "-00")])
    assert [world.spans.begin(each).given for each in (NOTHING, given)] == [False, True]
    assert isinstance(world.spans.first(sampled=True), Place)


def test_what_a_worker_says_of_a_failure_is_told_without_secrets() -> None:
    world = World(sample=1.0)
    words = "no authorization: Bearer abcdef for eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0"
    place = world.spans.begin(NOTHING)
    world.spans.add(Made("m", SpanKind.CLIENT, place, 0, 1, {}, Status(StatusCode.ERROR, words)))
    (span,) = world.exporter.get_finished_spans()
    assert span.status.description == "no authorization: [redacted] for [redacted]"
