"""The part of Jaeger's query API that reading takes, over HTTP. Law: it answers GETs about what is in the store.

https://www.jaegertracing.io/docs/1.62/apis/#http-json. On the loopback it answers to names of the loopback only: a page
that has had its own name point here (DNS rebinding) would else read our traces by its visitor's browser. It allows no
other origin to read, either.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import web

from headrace.traces import query, written
from headrace.traces.spans import Span
from headrace.traces.store import Store
from mesh.catalog import is_loopback

_ID: Final = re.compile(r"[0-9a-fA-F]{1,32}")
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_HELLO: Final = (
    "headrace collector keeps traces here: headrace trace shows them, and Jaeger's query API is at /api/traces\n"
)


def application(store: Store, clock: Callable[[], int], *, loopback: bool) -> web.Application:
    """The API; `clock` gives nanoseconds since the epoch. With `loopback` only by the loopback's names."""
    one_at_a_time = asyncio.Semaphore(1)  # an answer may be as large as the store

    async def services(_request: web.Request) -> web.Response:
        return _answer(_data(store.services()))

    async def trace(request: web.Request) -> web.Response:
        asked = request.match_info["id"]
        if not _ID.fullmatch(asked):
            return _refusal(400, "a trace id is up to 32 hexadecimal digits")
        spans = store.trace(asked.lower().zfill(32))
        return await told(lambda: [spans]) if spans else _refusal(404, "trace not found")

    async def traces(request: web.Request) -> web.Response:
        try:
            asked = query.read(list(request.query.items()), clock())
        except query.Unreadable as error:
            return _refusal(400, str(error))
        kept = store.traces()
        return await told(lambda: query.chosen(kept, asked))

    async def told(find: Callable[[], Sequence[Sequence[Span]]]) -> web.Response:
        async with one_at_a_time:
            return await asyncio.to_thread(lambda: _answer(_data([written.trace(spans) for spans in find()])))

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text=_HELLO)

    app = web.Application(middlewares=[_as_json, _of_the_loopback] if loopback else [_as_json])
    app.add_routes([web.get("/", hello), web.get("/api/services", services), web.get("/api/traces", traces)])
    app.router.add_get("/api/traces/{id}", trace)
    return app


@web.middleware
async def _of_the_loopback(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if not _names_loopback(request.headers.get("Host", "")):
        return _refusal(403, "this is asked by a name of the loopback only")
    return await handler(request)


@web.middleware
async def _as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What aiohttp refuses by itself, in Jaeger's form, too."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _refusal(error.status, error.reason)
    response.headers.update(_HEADERS)
    return response


def _names_loopback(host: str) -> bool:
    """Whether it is `localhost` or an address of the loopback, with a port or without."""
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+))(?::\d+)?", host)
    return match is not None and is_loopback((match[1] or match[2]).lower())


def _data(found: Sequence[object]) -> dict[str, Any]:
    return {"data": found, "total": len(found), "limit": 0, "offset": 0, "errors": None}


def _refusal(status: int, words: str) -> web.Response:
    return _answer(
        {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": status, "msg": words}]}, status
    )


def _answer(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")
