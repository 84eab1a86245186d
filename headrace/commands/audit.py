"""`headrace audit`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace import configured
from headrace.commands import parse, plain
from headrace.commands.output import Output
from headrace.failure import CommandError
from protos import rfc3339

if TYPE_CHECKING:
    from gateway.audit_chain import Link
    from headrace.audit.files import File
    from headrace.audit.verified import Verified

app = typer.Typer(cls=plain.Group, help="Read and verify the audit.")

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE|FOLDER",
        exists=True,
        help="Files, or folders of them; else the configuration's.",
        show_default=False,
    ),
]
Config = Annotated[
    Path, typer.Option("--config", "-c", dir_okay=False, help="Where no file is named: which headrace.yaml says where.")
]
_HERE: Final = Path("headrace.yaml")
_WIDE: Final = 140  # columns of a terminal
_FEW: Final = 8


@app.callback()
def _group() -> None:
    pass


@app.command(cls=plain.Command)
def verify(
    files: Files = None,
    config: Config = _HERE,
    *,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SEQ:CHAIN", help="A line that must be there, as the gateway's log told it.", show_default=False
        ),
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> int:
    """Find what was changed in an audit: lines changed, missing, put in or moved, and files that are missing.

    With --expect also lines missing at the end, and a chain that was made anew. Exit code 1 where anything is wrong.
    """
    from headrace.audit.verified import verify as verified  # noqa: PLC0415 - gRPC

    wanted = [_link(one) for one in expect or ()]
    with _readable():
        found = _files(files, config)
        with _progress(sum(one.size for one in found)) as read:
            result = verified(found, wanted, read)
    if output is Output.JSON:
        typer.echo(_as_json(found, result))
    else:
        from headrace.console import Console  # noqa: PLC0415

        for line in _sentences(found, result):
            Console().print(line, soft_wrap=True, markup=False)
    return 1 if result.wrong else 0


@app.command(cls=plain.Command)
def show(  # noqa: PLR0913 - a command's options
    files: Files = None,
    config: Config = _HERE,
    *,
    caller: Annotated[
        str | None,
        typer.Option(help="By this caller, its subject or its issuer; * may stand at the end.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="For this model; * may stand at the end.", show_default=False)
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="The one call.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="No older than that, as in 1h.", show_default=False)
    ] = None,
    refused: Annotated[bool, typer.Option("--refused", metavar="", help="What was refused.")] = False,
    most: Annotated[int, typer.Option("-n", min=0, help="How many of the last; 0: all.")] = 20,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> int:
    """Show who called what, and what was decided. With -o json the lines as they are in the file."""
    from headrace.audit.shown import Wanted, picked, table  # noqa: PLC0415 - the same
    from headrace.console import Console, busy  # noqa: PLC0415

    at = None if since is None else rfc3339.written(int((time.time() - parse.seconds(since, "--since")) * 1e9))
    console = Console()
    with _readable(), busy(console, "Reading"):
        lines = picked(_files(files, config), Wanted(caller, model, request_id, at, refused), most)
    if output is Output.JSON:
        for line, _ in lines:
            typer.echo(line.decode(errors="replace"))
    elif lines:
        console.print(table((told for _, told in lines), wide=console.width >= _WIDE))
    else:
        console.print("no such call is in the audit")
    return 0


def _files(named: Sequence[Path] | None, config: Path) -> list[File]:
    """Raises CommandError."""
    from headrace.audit.files import in_order  # noqa: PLC0415 - gRPC

    found = in_order(named or [_configured(config)])
    if not found:
        raise CommandError("there is no audit: none of the files there begins as one does")
    return found


def _configured(config: Path) -> Path:
    from gateway.settings import load  # noqa: PLC0415 - gRPC

    if not config.exists():
        raise typer.BadParameter(f"name a file or a folder, or a configuration: there is no {config}")
    with configured.usable():
        audit = load(config, os.environ).audit
    if audit is None:
        raise CommandError(f"{config} asks for no audit: it has no audit.file")
    return audit.file


def _link(text: str) -> Link:
    from gateway.audit_chain import Link  # noqa: PLC0415

    seq, _, chain = text.partition(":")
    if not seq.isdigit() or len(chain) != 64 or set(chain) - set("0123456789abcdef"):
        raise typer.BadParameter("is no SEQ:CHAIN: a number, and 64 hexadecimal digits", param_hint="--expect")
    return Link(int(seq), chain)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar while inside, by bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from headrace.console import Console, live  # noqa: PLC0415

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not live(console)) as shown:
        task = shown.add_task("Verifying", total=total)
        yield lambda size: shown.advance(task, size)


def _sentences(files: Sequence[File], found: Verified) -> Iterator[str]:
    if found.wrong:
        where = f"{found.wrong.path}{f':{found.wrong.at}' if found.wrong.at else ''}: " if found.wrong.path else ""
        yield f"wrong: {where}{found.wrong.what}"
        yield f"good until line {found.last.seq}" if found.lines else "no line before that is good"
        return
    yield f"good: {found.lines} lines in {len(files)} {'file' if len(files) == 1 else 'files'}"
    yield f"last  {found.last}"
    if found.before.seq:
        yield f"lines 1 to {found.before.seq} are in no file here"
    if found.lost:
        yield f"{found.lost} calls are not in it: it says itself that their lines were lost"
    if found.torn:
        yield f"{found.torn} pieces of lines are in it, of which it says so"
    if found.running:
        first = ", ".join(map(str, found.running[:_FEW])) + (" and others" if len(found.running) > _FEW else "")
        yield f"who began in line {first} has not said that it ended: it runs, or what it had not yet written is lost"
    if found.open:
        yield "its last line has no end: it is being written, or who wrote it was ended"


def _as_json(files: Sequence[File], found: Verified) -> str:
    wrong = found.wrong
    told = {
        "good": wrong is None,
        "files": [str(one.path) for one in files],
        "lines": found.lines,
        "before": {"seq": found.before.seq, "chain": found.before.chain},
        "last": {"seq": found.last.seq, "chain": found.last.chain},
        "lost": found.lost,
        "torn": found.torn,
        "open": found.open,
        "begun": found.running,
        "wrong": wrong and {"file": wrong.path and str(wrong.path), "line": wrong.at or None, "what": wrong.what},
    }
    return json.dumps(told, indent=2)
