"""`headrace token`."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Annotated, Final

import typer

from headrace.commands import decode, parse, plain
from headrace.demo import state
from headrace.failure import CommandError

_TIMEOUT: Final = 5.0  # seconds


app = typer.Typer(cls=plain.Group, invoke_without_command=True)
app.command(cls=plain.Command)(decode.decode)


@app.callback(epilog="`headrace token decode` explains one.")
def token(
    context: typer.Context,
    subject: Annotated[str, typer.Option(help="Whom the token is for (claim sub).")] = "demo",
    scope: Annotated[str, typer.Option(help="What it may do (claim scope); infer:digits is granted.")] = "infer:digits",
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="How long it is good, 24h at most.")] = "1h",
) -> None:
    """Print a token of the running demo's issuer."""
    if context.invoked_subcommand is not None:
        return
    lifetime = parse.seconds(ttl, "--ttl")
    if not 0 < lifetime <= 24 * 3600:
        raise typer.BadParameter("a token is good for more than nothing and at most 24h", param_hint="--ttl")
    typer.echo(ask(state.find(state.folder(os.environ)), subject, scope, lifetime))


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
