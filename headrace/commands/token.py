"""`headrace token`."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headrace.commands import decode, keys, parse, plain
from headrace.demo import state
from headrace.failure import CommandError

_TIMEOUT: Final = 5.0  # seconds


app = typer.Typer(cls=plain.Group, invoke_without_command=True)
app.command(cls=plain.Command)(decode.decode)
app.command(cls=plain.Command)(keys.keys)


@app.callback()
def token(
    context: typer.Context,
    subject: Annotated[str, typer.Option(help="Whom the token is for (claim sub).")] = "demo",
    scope: Annotated[
        str | None, typer.Option(help="What it may do (claim scope); the demo grants infer:digits, and gives it.")
    ] = None,
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="How long it is good, 24h at most.")] = "1h",
    key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Sign with this key (headrace token keys), not as the demo."),
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="With --key: the issuer (claim iss).")] = None,
    audience: Annotated[str, typer.Option(help="With --key: whom it is to be shown to (claim aud).")] = "headrace",
) -> None:
    """Print a token: of the running demo's issuer, or by a key of your own."""
    if context.invoked_subcommand is not None:
        return
    lifetime = parse.seconds(ttl, "--ttl")
    if not 0 < lifetime <= 24 * 3600:
        raise typer.BadParameter("a token is good for more than nothing and at most 24h", param_hint="--ttl")
    if (key is None) is not (issuer is None):
        raise typer.BadParameter("--key and --issuer go together", param_hint="--key")
    if key is None:
        typer.echo(ask(state.find(state.folder(os.environ)), subject, scope or "infer:digits", lifetime))
        return
    claims = {"iss": issuer, "sub": subject, "aud": audience} | ({"scope": scope} if scope else {})
    typer.echo(_signed(key, claims, lifetime))


def _signed(key: Path, claims: dict[str, Any], ttl: float) -> str:
    """Raises CommandError."""
    from headrace import signing  # noqa: PLC0415 - cryptography

    try:
        pem = key.read_bytes()
    except OSError as error:
        raise CommandError(f"{key} cannot be read: {error.strerror}") from None
    return signing.read(pem, str(key)).sign(claims, issued=time.time(), ttl=ttl)


def ask(demo: state.State, subject: str, scope: str, ttl: float) -> str:
    """A token from the demo's issuer. Raises CommandError."""
    form = {"grant_type": "client_credentials", "subject": subject, "scope": scope, "ttl": f"{ttl}"}
    request = urllib.request.Request(  # noqa: S310 - the address is our own demo's
        f"{demo.issuer}/token",
        data=urllib.parse.urlencode(form).encode(),
        headers={"authorization": f"Bearer {demo.secret}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the loopback needs no proxy
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            return str(json.load(response)["access_token"])
    except urllib.error.HTTPError as error:
        raise CommandError(f"the demo's issuer refuses ({error.code}); end the demo and start it again") from None
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        raise CommandError(f"the demo's issuer does not answer; {state.START}") from None
