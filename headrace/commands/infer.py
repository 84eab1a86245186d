"""`headrace infer`."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands import parse, token
from headrace.commands.output import Output
from headrace.demo import state
from headrace.failure import CommandError

if TYPE_CHECKING:
    from headrace.answers import Reply


def infer(  # noqa: PLR0913, PLR0917 - options
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]FILE",
            help="The inputs: pictures, .npy, .npz, .json, .txt; - is JSON from standard input. "
            "NAME= where the model has several.",
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="A text, for the input of datatype BYTES.")] = None,
    version: Annotated[
        str, typer.Option(help="A version or an alias; without one the gateway's traffic decides.")
    ] = "",
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", parser=parse.address, help="The gateway; else the running demo's."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Call by TLS, and trust the certificates in this file."),
    ] = None,
    bearer: Annotated[
        str | None, typer.Option("--token", help="The caller's token; for the running demo one is asked for.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file with the token, which ps does not show.")
    ] = None,
    deadline: Annotated[str, typer.Option(metavar="DURATION", help="How long the call may take.")] = "10s",
    save: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the outputs to a .npz file, or a single one to .npy.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> None:
    """Send files to a model and show what it answers."""
    if not files and text is None:
        raise typer.BadParameter("give a FILE, or --text", param_hint="FILE")
    if bearer is not None and token_file is not None:
        raise typer.BadParameter("give the token itself or its file", param_hint="--token-file")
    if token_file is not None:
        bearer = _read(token_file)
    timeout = parse.seconds(deadline, "--deadline")
    if address is None:
        demo = state.find(state.folder(os.environ))
        address, bearer = demo.gateway, bearer or token.ask(demo, "demo", "infer:digits", 60.0)
    from headrace import answers, inputs  # noqa: PLC0415 - numpy
    from headrace.client import Client, Refused  # noqa: PLC0415 - tritonclient

    async def call() -> tuple[Reply, float]:
        async with Client(address, ca, timeout) as caller:
            wanted = await caller.inputs(model, version, bearer)
            tensors = await asyncio.to_thread(inputs.tensors, wanted, files or [], text)
            began = time.perf_counter()
            answer = await caller.infer(model, tensors, version=version, token=bearer)
            return answer, time.perf_counter() - began

    try:
        reply, took = asyncio.run(call())
    except Refused as refused:
        raise CommandError(
            f"the gateway at {address} says {refused}{_advice(refused.status, refused.reason)}"
        ) from None
    if save is not None:
        answers.save(save, reply.outputs)
    if output is Output.JSON:
        typer.echo(answers.as_json(reply))
    else:
        _show(reply, took)


def _show(reply: Reply, took: float) -> None:
    from headrace import shown_answer  # noqa: PLC0415 - only for people
    from headrace.console import Console  # noqa: PLC0415 - the same

    console = Console()
    for part in shown_answer.parts(reply, took, console.options):
        console.print(part)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise CommandError(f"{file} cannot be read as a token") from None


def _advice(status: str, reason: str) -> str:
    if status == "UNAUTHENTICATED":
        return "; give a good token with --token or --token-file"
    if reason == "NOT_GRANTED":
        return (
            "; ask for a grant, or check the model's name. "
            "headrace infer also reads the model's metadata, which takes the action inspect."
        )
    if status == "UNAVAILABLE" and not reason:
        return "; check that it runs, the address, and whether it takes TLS (--ca)"
    if status == "DEADLINE_EXCEEDED":
        return "; give it more time with --deadline, as far as the model's timeout allows"
    return ""
