"""`headrace trace`."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from headrace.commands import parse
from headrace.commands.output import Output
from headrace.console import Console, busy
from headrace.demo import state
from headrace.failure import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.traces.source import Source, Wanted
    from headrace.traces.spans import Span


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise typer.BadParameter(f"{value} is no address of a Jaeger, as in http://127.0.0.1:16686")
    return value


def _id(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{8,32}", value):
        raise typer.BadParameter(f"{value} is no id: 32 hexadecimal digits, or the first 8 or more of a trace's")
    return value.lower()


def trace(  # noqa: PLR0913 - a filter each
    sought: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", parser=_id, help="A trace, or the request in it; else the last are listed."),
    ] = None,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            parser=_url,
            help="A Jaeger's page, or our collector's query address. Else the demo that stays, or http://127.0.0.1:16686.",
        ),
    ] = None,
    service: Annotated[str, typer.Option(help="Traces that this service took part in.")] = "",
    model: Annotated[str, typer.Option(help="Traces of calls of this model.")] = "",
    errors: Annotated[bool, typer.Option("--errors", metavar="", help="Traces in which something failed.")] = False,
    slow: Annotated[str, typer.Option(metavar="DURATION", help="Traces with a span that took as long.")] = "0s",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many traces to list.")] = 20,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> int:
    """Show the last traces, or one as a waterfall: who did what, when, and for how long.

    From a Jaeger, or from headrace collector, where gateway and workers export to (telemetry.otlp, worker --otlp).
    """
    from headrace.traces.source import Source, Wanted  # noqa: PLC0415 - pydantic

    wanted = Wanted(service, model, errors, parse.seconds(slow, "--slow"), limit)
    source = Source(url or _default())
    if sought is None:
        _last(source, wanted, output)
    elif wanted != Wanted():
        raise typer.BadParameter("one trace is not filtered", param_hint="ID")
    else:
        _one(source, sought, output)
    return 0


def _default() -> str:
    from headrace.traces.source import JAEGER  # noqa: PLC0415

    try:
        return state.find(state.folder(os.environ)).traces
    except CommandError:
        return JAEGER


def _last(source: Source, wanted: Wanted, output: Output) -> None:
    from headrace.traces.listing import listing  # noqa: PLC0415 - rich's tables
    from headrace.traces.summary import summary  # noqa: PLC0415

    console = Console()
    with busy(console, "Asking"):
        found = [summary(spans) for spans in source.last(wanted)]
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(one) for one in found]))
    elif found:
        console.print(f"traces at {source.url}", style="dim", markup=False, soft_wrap=True)
        console.print(listing(found, console.options))
    else:
        console.print(f"no such traces at {source.url}", markup=False, soft_wrap=True)


def _one(source: Source, sought: str, output: Output) -> None:
    console = Console()
    with busy(console, "Asking"):
        spans = source.one(sought)
    if output is Output.JSON:
        typer.echo(_as_json(spans))
        return
    from headrace.traces.waterfall import Waterfall  # noqa: PLC0415

    console.print(Waterfall(spans))


def _as_json(spans: Sequence[Span]) -> str:
    from headrace.traces.tree import tree  # noqa: PLC0415

    return json.dumps([asdict(place.span) for place in tree(spans)])
