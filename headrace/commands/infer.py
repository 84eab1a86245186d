"""`headrace infer`."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands import parse, token
from headrace.commands.output import Output
from headrace.demo import state
from headrace.failure import CommandError, extra

if TYPE_CHECKING:
    from headrace.client import Answer


def infer(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    image: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A picture, light strokes on dark.")],
    version: Annotated[
        str, typer.Option(help="A version or an alias; without one the gateway's traffic decides.")
    ] = "",
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", parser=parse.address, help="The gateway; else the running demo's."),
    ] = None,
    bearer: Annotated[
        str | None, typer.Option("--token", help="The caller's token; for the running demo one is asked for.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> None:
    """Send one picture to an image classifier and show what it sees."""
    if address is None:
        demo = state.find(state.folder(os.environ))
        address, bearer = demo.gateway, bearer or token.ask(demo, "demo", "infer:digits", 60.0)
    with extra("demo", "infer"):
        from headrace.client import Client, Refused  # noqa: PLC0415 - tritonclient
        from headrace.pictures import read  # noqa: PLC0415 - Pillow

    async def call() -> tuple[Answer, float]:
        async with Client(address) as caller:
            like = await caller.signature(model, version, bearer)
            pixels = read(image, like.side).reshape(1, -1)
            began = time.perf_counter()
            answer = await caller.classify(model, pixels, like, version=version, token=bearer)
            return answer, time.perf_counter() - began

    try:
        answer, took = asyncio.run(call())
    except Refused as refused:
        raise CommandError(
            f"the gateway at {address} says {refused}{_advice(refused.status, refused.reason)}"
        ) from None
    if output is Output.JSON:
        typer.echo(as_json(model, answer, took))
    else:
        _show(model, answer, took)


def as_json(model: str, answer: Answer, took: float) -> str:
    """The answer for scripts; `seconds` is what the call took."""
    said = {
        "model": model,
        "version": answer.version,
        "prediction": int(answer.labels[0]),
        "probabilities": [round(float(probability), 6) for probability in answer.probabilities[0]],
        "seconds": round(took, 6),
    }
    return json.dumps(said)


def _show(model: str, answer: Answer, took: float) -> None:
    from headrace.chart import bars  # noqa: PLC0415 - only for people
    from headrace.console import Console  # noqa: PLC0415 - the same

    console = Console()
    likeliest = int(answer.labels[0])
    console.print(f"[bold]{likeliest}[/bold], says {model} version {answer.version} ({took * 1000:.1f} ms)")
    console.print(bars([float(probability) for probability in answer.probabilities[0]], console.options))


def _advice(status: str, reason: str) -> str:
    if status == "UNAUTHENTICATED":
        return "; give a good token with --token"
    if reason == "NOT_GRANTED":
        return (
            "; ask for a grant, or check the model's name. "
            "headrace infer also reads the model's metadata, which takes the action inspect."
        )
    if status == "UNAVAILABLE" and not reason:
        return "; check that it runs, and the address"
    return ""
