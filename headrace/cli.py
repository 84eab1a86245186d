"""The command line. Law: a user reads sentences; exit codes are 0 done, 1 failed, 2 usage.

Errors go to standard error as one sentence that says what to do. A defect of ours shows its traceback only under
Python's development mode (`python -X dev -m headrace ...`).
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import typer

from headrace.commands import (
    audit,
    collector,
    config,
    demo,
    doctor,
    gateway,
    infer,
    mesh,
    plain,
    token,
    top,
    trace,
    triton,
    worker,
)
from headrace.failure import CommandError
from headrace.printable import printable

_INTERRUPTED: Final = 130  # what Typer returns after a Ctrl-C

app = typer.Typer(
    name="headrace",
    help="One authenticated gRPC door in front of every model server.",
    cls=plain.Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=plain.Command)(demo.demo)
app.command(cls=plain.Command)(gateway.gateway)
app.command(cls=plain.Command)(worker.worker)
app.command(cls=plain.Command)(triton.triton)
app.add_typer(token.app, name="token")
app.command(cls=plain.Command)(infer.infer)
app.add_typer(mesh.app, name="mesh")
app.command(cls=plain.Command)(trace.trace)
app.command(cls=plain.Command)(collector.collector)
app.command(cls=plain.Command)(top.top)
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.command(cls=plain.Command)(doctor.doctor)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - Typer's signature
    if asked:
        typer.echo(f"headrace {importlib.metadata.version('headrace')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """The exit code of `headrace ARGUMENTS`."""
    try:
        code: int = app(args=list(arguments) or ["--help"], prog_name="headrace", standalone_mode=False) or 0
        return _fail("stopped", 1) if code == _INTERRUPTED else code
    except CommandError as error:
        return _fail(str(error), 1)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} ({_path(error, arguments)} --help tells more)", error.exit_code)
    except BrokenPipeError:
        # Python flushes standard output once more at exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        return _fail(f"this is a defect of headrace, please report it: {type(error).__name__}: {error}", 1)


def main() -> None:
    """The console script."""
    os.environ["no_grpc_proxy"] = spared(os.environ)  # noqa: SIM112 - gRPC reads the small one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another
    sys.exit(run(sys.argv[1:]))


def spared(environ: Mapping[str, str]) -> str:
    """Hosts that gRPC calls without the environment's HTTP proxy: the user's, and this machine."""
    users = environ.get("no_grpc_proxy") or environ.get("no_proxy")
    return ",".join([*([users] if users else []), "localhost", "127.0.0.1"])


def _path(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """The command that the error is about; what a command itself raises has no context, and the command is known."""
    context = getattr(error, "ctx", None)
    return context.command_path if context else " ".join(["headrace", *arguments[:1]])


def _fail(sentence: str, code: int) -> int:
    typer.echo(printable(f"headrace: {sentence}"), err=True)
    return code
