"""What a Prometheus answers, by its HTTP API. Law: an error of the query is an exception with Prometheus's words.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

Points = list[tuple[float, float]]
"""Of one series: seconds since the epoch, and the value."""
_PATIENCE: Final = aiohttp.ClientTimeout(total=10)


class QueryError(Exception):
    """Prometheus does not answer, or not this."""


@dataclass(frozen=True)
class Prometheus:
    """A server at `url`, asked in `session`."""

    session: aiohttp.ClientSession
    url: str

    async def now(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and value of each series."""
        found = await self._asked("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    async def over(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[Mapping[str, str], Points]]:
        """Labels and points of each series, from one time to another (seconds since the epoch)."""
        found = await self._asked("query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found["result"]]

    async def exemplars(self, expression: str, start: float, end: float) -> list[tuple[Mapping[str, str], float]]:
        """Labels of exemplars (`trace_id`) and what was measured, of every series in the query."""
        found = await self._asked("query_exemplars", query=expression, start=str(start), end=str(end))
        return [(one["labels"], float(one["value"])) for series in found for one in series["exemplars"]]

    async def _asked(self, page: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON, read above
        try:
            async with self.session.post(f"{self.url}/api/v1/{page}", data=parameters, timeout=_PATIENCE) as answer:
                document = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise QueryError(f"{self.url}: {error}") from None
        if document.get("status") != "success":
            raise QueryError(f"{document.get('error')}: {parameters['query']}")
        return document["data"]
