"""`headrace token keys`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from headrace.failure import CommandError


def keys(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The files are NAME.pem and NAME.jwks.json.")],
) -> None:
    """Make a key for an issuer of your own: NAME.pem signs tokens, and NAME.jwks.json is what proves them."""
    from headrace import signing  # noqa: PLC0415 - cryptography

    key = signing.new()
    private, public = (name.with_name(f"{name.name}.{suffix}") for suffix in ("pem", "jwks.json"))
    try:
        with open(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a mode
            file.write(key.pem)
        public.write_text(json.dumps(key.jwks, indent=2) + "\n", encoding="utf-8")
    except FileExistsError:
        raise CommandError(f"{private} is there already: what it has signed would no longer be proved") from None
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}") from None
    typer.echo(f"{private} signs tokens: headrace token --key {private} --issuer NAME")
    typer.echo(f"{public} proves them: in headrace.yaml, of that issuer, jwks: file:{public}")
