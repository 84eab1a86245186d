"""Asked of our collector, and of what is none."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.failure import CommandError
from headrace.traces import source as sources
from headrace.traces.collector import Collector, collecting
from headrace.traces.source import Source, Wanted
from headrace.traces.store import Store
from protos import tracing
from tests.gateway.world import unused_address
from tests.headrace.called import Done, headrace
from tests.headrace.traces.some import TRACE, span
from tests.web import web

REQUEST = "5e" * 16
SPANS = (
    span("11", attributes={tracing.MODEL: "digits", tracing.RPC_STATUS: "OK", tracing.REQUEST_ID: REQUEST}),
    span("22", "11", service="worker-2", end=120),
    span("33", trace="b2" * 16, start=5, end=6, attributes={tracing.MODEL: "letters"}, error=True),
    span("44", trace="b2b2" + "c3" * 14, start=7, end=8, service="other"),
    span("55", trace="d4" * 16, start=9, end=10, service="jaeger-all-in-one"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with collecting(Store()) as running:
        running.store.add(SPANS)
        yield running


def ids(found: sources.Traces) -> list[str]:
    return [spans[0].trace[:4] for spans in found]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), ["b2b2", "b2b2", "a1a1"]),
        (Wanted(limit=2), ["b2b2", "b2b2"]),
        (Wanted(service="worker-2"), ["a1a1"]),
        (Wanted(service="jaeger-all-in-one"), ["d4d4"]),
        (Wanted(model="digits"), ["a1a1"]),
        (Wanted(errors=True), ["b2b2"]),
        (Wanted(model="digits", errors=True), []),
        (Wanted(slow=0.1), ["a1a1"]),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_last_traces(collector: Collector, wanted: Wanted, expected: list[str]) -> None:
    assert ids(await asyncio.to_thread(Source(collector.query).last, wanted)) == expected


@pytest.mark.asyncio(loop_scope="module")
async def test_one_trace_by_all_of_its_id_or_its_first_digits_or_the_request_in_it(collector: Collector) -> None:
    source = Source(collector.query + "/")
    for known in (TRACE, TRACE[:8], REQUEST):
        assert sorted(await asyncio.to_thread(source.one, known), key=lambda span: span.id) == list(SPANS[:2])
    with pytest.raises(CommandError, match=r"none of the last traces at .* begin with a1a1a1a2"):
        await asyncio.to_thread(source.one, "a1a1a1a2")
    with pytest.raises(CommandError, match=f"has no trace or request {'e' * 32}"):
        await asyncio.to_thread(source.one, "e" * 32)


@pytest.mark.asyncio(loop_scope="module")
async def test_first_digits_of_several_are_not_guessed() -> None:
    async with collecting(Store()) as running:
        running.store.add([span("11", trace="b2" * 15 + "00"), span("11", trace="b2" * 15 + "11")])
        with pytest.raises(CommandError, match="2 of the last traces"):
            await asyncio.to_thread(Source(running.query).one, "b2b2b2b2")


@contextlib.contextmanager
def answering(body: bytes, status: int = 200, **headers: str) -> Iterator[str]:
    """A server that is no Jaeger."""

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with web(Answering) as url:
        yield url


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"<html>\x1b[2J", 200, "is no Jaeger's"),
        (b"", 404, "is no Jaeger's"),
        (b'{"data": ["a"], "x": ' + b"[" * 100_000, 200, "is no Jaeger's"),
        (
            b'{"errors": [{"msg": "parameter \'service\' is required"}]}',
            400,
            "status 400: parameter 'service' is required",
        ),
        (b"down", 503, "status 503"),
        (
            json.dumps({"data": [f"s{at}" for at in range(51)]}).encode(),
            200,
            "knows 51 services; name one with --service",
        ),
    ],
)
def test_an_answer_that_cannot_be_used_is_told_in_a_sentence(body: bytes, status: int, told: str) -> None:
    with answering(body, status) as url:
        done = headrace("trace", "--from", url)
    assert done.returncode == 1
    assert done.stderr.startswith("headrace: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_LARGEST", 1024)
    with answering(b'{"data": ["' + b"a" * 2000 + b'"]}') as url:
        assert "ask for less with --limit" in headrace("trace", "--from", url).stderr


def test_nobody_there(tmp_path: Path) -> None:
    url = f"http://{unused_address()}"
    done = headrace("trace", "--from", url)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"headrace: nobody answers at {url} (Connection refused); start headrace demo --stay or "
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("../../etc/passwd",),
        ("abc",),
        ("g" * 32,),
        ("0" * 33,),
        (TRACE, "--errors"),
        ("--from", "file:///etc/passwd"),
        ("--from", "file://localhost/etc/passwd"),
        ("--from", "127.0.0.1:16686"),
        ("--from", "http://h/?x=1"),
        ("--limit", "0"),
        ("--slow", "100"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = headrace("trace", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


async def shown(collector: Collector, *arguments: str, **environ: str) -> Done:
    return await asyncio.to_thread(lambda: headrace("trace", "--from", collector.query, *arguments, environ=environ))


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_lists_and_draws(collector: Collector) -> None:
    listed = await shown(collector, "--model", "digits", COLUMNS="200")
    assert listed.returncode == 0
    assert f" {TRACE}  ModelInfer  headrace-gateway, worker-2  digits  OK " in listed.stdout
    drawn = await shown(collector, TRACE[:8], http_proxy="http://127.0.0.1:9", no_proxy="")
    assert drawn.stdout.splitlines()[0] == f"trace {TRACE}  ModelInfer  OK"
    assert "└─worker-2 server" in drawn.stdout
    assert "\x1b" not in listed.stdout + drawn.stdout
    nothing = await shown(collector, "--model", "none")
    assert (nothing.returncode, nothing.stdout) == (0, f"no such traces at {collector.query}\n")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_tells_programs_in_json(collector: Collector) -> None:
    (listed,) = json.loads((await shown(collector, "--slow", "100ms", "-o", "json")).stdout)
    assert (listed["trace"], listed["model"], listed["duration"], listed["spans"]) == (TRACE, "digits", 120_000_000, 2)
    first, second = json.loads((await shown(collector, TRACE, "-o", "json")).stdout)
    assert (first["attributes"][tracing.MODEL], second["parent"]) == ("digits", first["id"])
    assert json.loads((await shown(collector, "--model", "none", "-o", "json")).stdout) == []
