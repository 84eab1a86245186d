"""The issuers that configuration trusts, with their keys. Law: where keys come from is told by configuration alone."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import aiohttp

from gateway import jwks
from gateway.settings import Issuer, Settings
from gateway.verify import TrustedIssuer


async def trusted(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[TrustedIssuer, ...]:
    """Each issuer, whose keys are kept fresh until the stack ends."""
    session = await stack.enter_async_context(aiohttp.ClientSession())
    found: list[TrustedIssuer] = []
    for issuer in settings.issuers:
        keys = jwks.KeySource(issuer.issuer, fetch_of(issuer, session), issuer.refresh, time.monotonic)
        await stack.enter_async_context(keys.kept_fresh())
        found.append(
            TrustedIssuer(issuer.issuer, frozenset(issuer.audiences), frozenset(issuer.algorithms), issuer.leeway, keys)
        )
    return tuple(found)


def fetch_of(issuer: Issuer, session: aiohttp.ClientSession) -> jwks.Fetch:
    """What brings the issuer's keys."""
    if issuer.jwks is None:
        return jwks.from_discovery(session, issuer.issuer)
    if issuer.jwks.startswith("file:"):
        return jwks.from_file(Path(issuer.jwks.removeprefix("file:")))
    return jwks.from_url(session, issuer.jwks)
