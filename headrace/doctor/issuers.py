"""Issuers' keys, and the clock. Law: keys are asked for as the gateway asks; what answers also tells the time.

HTTP's `Date` is when an answer was made, and `Age` how long ago that was (RFC 9110, section 6.6.1, and RFC 9111,
section 5.1).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Final

import aiohttp

from gateway.issuers import fetch_of
from gateway.keys import KeySet, parse_jwks
from gateway.settings import Issuer
from headrace.doctor.finding import Finding
from protos.fetch import FetchError, shown

_KEYS: Final = "keys"
_CLOCK: Final = "clock"
_NOTICED: Final = 5.0  # seconds; `Date` has no fractions, and answers take their time

Clock = Callable[[], float]


async def issuer(one: Issuer, clock: Clock, patience: float) -> AsyncIterator[Finding]:
    """Whether the issuer's keys can be had and used, and by how much its clock is not ours.

    Each answer may take `patience` seconds.
    """
    timeout = aiohttp.ClientTimeout(total=patience)
    skews: list[float] = []
    async with aiohttp.ClientSession(timeout=timeout, trace_configs=[_noting(skews, clock)]) as session:
        try:
            yield _of_keys(one, parse_jwks(await fetch_of(one, session)()))
        except (FetchError, aiohttp.ClientError, OSError, ValueError) as error:
            yield _unavailable(one, error)
    if skews:
        yield _of_clock(one, min(skews, key=abs))
    elif (one.jwks or "").startswith("file:"):
        yield Finding(_CLOCK, "ok", f"the clock was not compared: keys of {one.issuer} are in a file")


def _of_keys(one: Issuer, keys: KeySet) -> Finding:
    wanted = ", ".join(one.algorithms)
    fit = [key for key in keys.keys if key.algorithms & set(one.algorithms)]
    if not fit:
        do = "add the algorithm of its keys to the issuer's algorithms, or name another jwks"
        return Finding(_KEYS, "error", f"none of {len(keys.keys)} keys of {one.issuer} is for {wanted}", do)
    named = ", ".join(key.kid or "without kid" for key in fit)
    return Finding(_KEYS, "ok", f"keys of {one.issuer} for {wanted}: {named}")


def _unavailable(one: Issuer, error: Exception) -> Finding:
    why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    do = f"see from this machine what {shown(one.jwks or one.issuer)} answers; until then its tokens are refused"
    return Finding(_KEYS, "error", f"keys of {one.issuer} cannot be had: {why}", do)


def _of_clock(one: Issuer, skew: float) -> Finding:
    side = "ahead of" if skew > 0 else "behind"
    what = f"this clock is {abs(skew):.0f} s {side} that of {one.issuer}"
    do = "let NTP set it (timedatectl set-ntp true), or see to the issuer's"
    if abs(skew) > max(one.leeway, _NOTICED):
        return Finding(
            _CLOCK, "error", f"{what}, more than its leeway of {one.leeway:g} s: good tokens are refused", do
        )
    if abs(skew) > _NOTICED:
        return Finding(_CLOCK, "warning", what, do)
    return Finding(_CLOCK, "ok", f"this clock is that of {one.issuer}")


def _noting(skews: list[float], clock: Clock) -> aiohttp.TraceConfig:
    """Notes of every answer by how many seconds our clock is ahead of who gave it."""
    trace = aiohttp.TraceConfig()

    async def note(_: aiohttp.ClientSession, __: SimpleNamespace, end: aiohttp.TraceRequestEndParams) -> None:
        try:
            made = parsedate_to_datetime(end.response.headers["Date"]).timestamp()
            skews.append(clock() - made - int(end.response.headers.get("Age", 0)))
        except (KeyError, ValueError, OverflowError):
            return

    trace.on_request_end.append(note)
    return trace
