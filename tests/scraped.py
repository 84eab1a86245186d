"""What /metrics says, as Prometheus's own library reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SHORT = {"rpc_response_status_code": "status", "rpc_method": "method"}


@dataclass(frozen=True)
class Scraped:
    """Samples; labels go by what is left of their names without `headrace_`, without empty ones."""

    samples: list[Sample]

    def all(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Those of the name that have these labels, by all of theirs."""
        found = {}
        for sample in self.samples:
            told = {SHORT.get(key, key.removeprefix("headrace_")): value for key, value in sample.labels.items()}
            if sample.name == name and all(told.get(key) == value for key, value in labels.items()):
                found[tuple(sorted((key, value) for key, value in told.items() if value))] = sample.value
        return found

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.all(name, **labels).values())

    @property
    def series(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {(sample.name, frozenset(sample.labels.items())) for sample in self.samples}


async def page(admin: str, accept: str = "") -> tuple[str, bytes]:
    """The content type, and what it says."""
    headers = {"Accept": accept} if accept else {}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://{admin}/metrics", headers=headers, skip_auto_headers=("Accept",)) as answer,
    ):
        assert answer.status == 200
        return answer.headers["Content-Type"], await answer.read()


async def scraped(admin: str) -> Scraped:
    _, text = await page(admin)
    families = text_string_to_metric_families(text.decode())
    return Scraped([sample for family in families for sample in family.samples])


async def until(admin: str, condition: Callable[[Scraped], bool], within: float = 20) -> Scraped:
    """What it says once that is so."""
    async with asyncio.timeout(within):
        while not condition(found := await scraped(admin)):
            await asyncio.sleep(0.05)
    return found
