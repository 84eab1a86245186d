"""`headrace token decode`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace import configured
from headrace.failure import CommandError
from headrace.printable import printable

if TYPE_CHECKING:
    from gateway.caller import Caller
    from gateway.explain import Explanation, OfGrant
    from gateway.limits import Limits

_TIMES: Final = ("exp", "nbf", "iat")
_LONGEST: Final = 100_000  # characters that are read


def decode(
    config: Annotated[Path, typer.Option("--config", "-c", exists=True, dir_okay=False, help="headrace.yaml")],
    token: Annotated[
        str | None, typer.Argument(help="The token; without one, standard input is read.", show_default=False)
    ] = None,
) -> int:
    """Explain a token: what it says, whether the gateway would take it, what it may do, and why not more.

    Exit code 1 where the gateway would refuse it, or it may do nothing.
    """
    from gateway import settings  # noqa: PLC0415 - gRPC
    from gateway.explain import explained  # noqa: PLC0415

    with configured.usable():
        loaded = settings.load(config, os.environ)
    text = (sys.stdin.read(_LONGEST) if token is None else token).strip().removeprefix("Bearer ").strip()
    if not text:
        raise CommandError("there is no token: name one, or send it to standard input")
    now = time.time()
    found = asyncio.run(explained(text, loaded, now))
    for line in _lines(found, now):
        typer.echo(printable(" ".join(line.splitlines())))  # a claim may hold whole lines
    return 0 if found.models else 1


def _lines(found: Explanation, now: float) -> Iterator[str]:
    if found.algorithm:
        yield f"signed   {found.algorithm}, key {found.kid or 'not named'}"
        yield from (f"claim    {name}: {_claim(name, value, now)}" for name, value in found.claims.items())
    if found.caller is None:
        yield f"refused  {found.refused}"
        return
    yield f"good     caller {found.caller.name}"
    yield from (f"grant    {_grant(index, one, found.caller)}" for index, one in enumerate(found.grants))
    for model, actions in found.models.items():
        yield f"may      {model}: {', '.join(f'{action}{_within(limits)}' for action, limits in actions.items())}"
    if not found.models:
        yield "may      nothing: no grant is for this caller"


def _claim(name: str, value: object, now: float) -> str:
    if name not in _TIMES or isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value)
    try:
        at = datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return json.dumps(value)
    away = abs(value - now)
    told = f"{away:.0f} s" if away < 120 else f"{away / 60:.0f} min" if away < 7200 else f"{away / 3600:.0f} h"
    return f"{at:%Y-%m-%d %H:%M:%S} UTC ({f'in {told}' if value > now else f'{told} ago'})"


def _grant(index: int, one: OfGrant, caller: Caller) -> str:
    grant = one.grant
    what = f"grants.{index} ({', '.join(sorted(grant.actions))}: {', '.join(grant.models)})"
    if one.ours:
        return f"{what} is for it"
    if grant.issuer != caller.issuer:
        return f"{what} is not: it is for callers of {grant.issuer}"
    wants = (f"{name} is {_had(had)}, not {wanted}" for name, (wanted, had) in one.missing.items())
    return f"{what} is not: {'; '.join(wants)}"


def _within(limits: Limits) -> str:
    """What holds for an action, in brackets; nothing where nothing does."""
    from protos.units import written_rate, written_size  # noqa: PLC0415

    told = []
    if limits.rate is not None:
        told.append(f"{written_rate(limits.rate.per_second)}, {limits.rate.burst} at once")
    if limits.concurrency is not None:
        told.append(f"{limits.concurrency} at a time")
    if limits.request is not None:
        told.append(f"{written_size(limits.request)} each")
    if limits.priority > 1:
        told.append(f"priority {limits.priority}")
    return f" ({'; '.join(told)})" if told else ""


def _had(value: object) -> str:
    return "absent" if value is None else json.dumps(value)
