"""Where it is had from: a gateway's admin page, and the Envoys of a mesh. Law: sockets and the clock are here alone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
import grpc

from headrace.top.rates import Behind
from headrace.top.read import Look, Version, look
from mesh.envoy.admin import Admin, UnreachableError
from mesh.status import rows
from mesh.status.admin import looked_at
from protos.metrics.prometheus import PROTOBUF

_NAMES: Final = {int(code.value[0]): code.name for code in grpc.StatusCode}
_PATIENCE: Final = aiohttp.ClientTimeout(total=5.0)


class AwayError(Exception):
    """The gateway does not tell; the text is a sentence's end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at all of it: at Envoys by their addresses; `silent` says of others why they tell nothing."""

    gateway: Look
    envoys: Mapping[str, rows.Look] = field(default_factory=dict)
    silent: Sequence[str] = ()


class Source:
    """The gateway whose admin page is at `url`, and Envoys by their admin pages, HOST:PORT."""

    def __init__(self, session: aiohttp.ClientSession, url: str, envoys: Sequence[str]) -> None:
        self._session = session
        self.url = url.rstrip("/")
        self._envoys = [Admin(session, address) for address in envoys]

    async def seen(self) -> Seen:
        """A look. Raises AwayError."""
        found: dict[str, rows.Look] = {}
        silent: list[str] = []
        page = await self._page()
        try:
            gateway = look(time.monotonic(), page)
        except ValueError:
            raise AwayError(f"{self.url}/metrics is not the page of a gateway's metrics") from None
        for envoy in self._envoys:
            try:
                found[envoy.address] = await looked_at(envoy)
            except UnreachableError as error:
                silent.append(f"the Envoy at {error}")
        return Seen(gateway, found, tuple(silent))

    async def _page(self) -> bytes:
        try:
            headers = {"Accept": PROTOBUF}
            async with self._session.get(f"{self.url}/metrics", headers=headers, timeout=_PATIENCE) as answer:
                body = await answer.read()
        except aiohttp.ClientConnectorError as error:
            why = os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
            raise AwayError(f"{self.url} does not answer: {why}") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise AwayError(f"{self.url} does not answer: {type(error).__name__}") from None
        if answer.status == HTTPStatus.NOT_FOUND:
            raise AwayError(f"{self.url} has no /metrics: telemetry.metrics is off, or it is no gateway's admin page")
        if answer.status != HTTPStatus.OK:
            raise AwayError(f"{self.url}/metrics answers {answer.status}")
        return body


def behind(before: Mapping[str, rows.Look], after: Mapping[str, rows.Look]) -> Mapping[Version, Behind]:
    """What the Envoys have seen between two looks; where several do of one version, together, and the worst of it."""
    found: dict[Version, Behind] = {}
    for address in before.keys() & after.keys():
        seconds = max(after[address].at - before[address].at, 1e-9)
        for row in rows.rows(before[address], after[address]):
            one, version = _of(row, seconds), (row.model, row.version)
            found[version] = _both(found[version], one) if version in found else one
    return found


def _of(row: rows.Row, seconds: float) -> Behind:
    return Behind(
        row.rate,
        {_NAMES.get(status, str(status)): count / seconds for status, count in row.statuses.items() if status},
        row.p50 and row.p50 / 1000,
        row.p99 and row.p99 / 1000,
        row.copies,
        row.ejected,
        row.refused / seconds,
        row.open,
    )


def _both(one: Behind, other: Behind) -> Behind:
    return Behind(
        one.rate + other.rate,
        {
            status: one.failed.get(status, 0.0) + other.failed.get(status, 0.0)
            for status in (*one.failed, *other.failed)
        },
        _worse(one.p50, other.p50),
        _worse(one.p99, other.p99),
        max(one.copies, other.copies),
        max(one.ejected, other.ejected),
        one.over + other.over,
        tuple(dict.fromkeys((*one.open, *other.open))),
    )


def _worse(one: float | None, other: float | None) -> float | None:
    return max((each for each in (one, other) if each is not None), default=None)
