"""Where the `headrace` command begins. Law: it needs the standard library alone; a package that lacks is a sentence.

`headrace doctor` finds what is wrong also where the command line itself cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.doctor.examine import examined, failed
from headrace.doctor.packages import needed
from headrace.doctor.shown import as_json, as_lines
from headrace.failure import is_ours, package_of
from headrace.printable import printable


def main() -> None:
    """The console script."""
    try:
        from headrace import cli  # noqa: PLC0415 - Typer, rich, pydantic: any may lack
    except Exception as error:
        if sys.flags.dev_mode or is_ours(error):
            raise
        sys.exit(without_command_line(sys.argv[1:], error))
    cli.main()


def without_command_line(arguments: Sequence[str], error: Exception) -> int:
    """The exit code of `headrace ARGUMENTS` where this error keeps the command line away."""
    if arguments[:1] == ["doctor"]:
        return _doctor(arguments[1:])
    sys.stderr.write(printable(f"headrace: {_sentence(error)}\n"))
    return 1


def _sentence(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        name = package_of(error)
        return f"the command line needs the package {name}: {needed(name, importlib.metadata.distribution)}"
    return f"packages do not fit together ({type(error).__name__}: {error}): run headrace doctor, which tells more"


def _doctor(arguments: Sequence[str]) -> int:
    """As `headrace.commands.doctor`, of fewer comforts."""
    parser = argparse.ArgumentParser("headrace doctor")
    parser.add_argument("-c", "--config", type=Path)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    asked = parser.parse_args(arguments)
    findings = asyncio.run(examined(asked.config, os.environ, importlib.metadata.distribution))
    text = as_json(findings) if asked.output == "json" else "\n".join(as_lines(findings))
    sys.stdout.write(f"{text}\n")
    return failed(findings)
