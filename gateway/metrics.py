"""What the gateway counts. Law: every name and label of its metrics is here; docs/reference/metrics.md is made of it.

A label's value is the configuration's, or one of few; callers make none.
"""

from __future__ import annotations

from typing import Final

from protos import tracing
from protos.metrics import process
from protos.metrics.described import LATENCY, Described, Kind
from protos.metrics.shared import DROPPED, DURATION

VERSION: Final = "version"

CALLS: Final = Described(
    "headrace.calls",
    Kind.COUNTER,
    "{call}",
    "Calls that have ended, by what was asked for, who answered, and how it ended.",
    labels=(
        tracing.RPC_METHOD,
        tracing.MODEL,
        tracing.VERSION_ASKED,
        tracing.VERSION_SERVED,
        tracing.GRANT,
        tracing.LANE,
        tracing.RPC_STATUS,
        tracing.REASON,
    ),
)
GATEWAY_DURATION: Final = Described(
    "headrace.gateway.duration",
    Kind.HISTOGRAM,
    "s",
    "How long calls of one message and one copy were in the gateway itself, without the time that the worker had them.",
    labels=(tracing.MODEL, tracing.LANE),
    bounds=LATENCY,
)
ACTIVE: Final = Described(
    "headrace.calls.active", Kind.GAUGE, "{call}", "Calls that are under way.", labels=(tracing.LANE,)
)
LIMIT: Final = Described(
    "headrace.admission.limit",
    Kind.GAUGE,
    "{call}",
    "Calls that a model with `admission` may have at a time, as found out by how long they take; of all processes.",
    labels=(tracing.MODEL,),
)
RUNNING: Final = Described(
    "headrace.admission.running",
    Kind.GAUGE,
    "{call}",
    "Calls that a model with `admission` has now.",
    labels=(tracing.MODEL,),
)
COPIES: Final = Described(
    "headrace.copies",
    Kind.GAUGE,
    "{copy}",
    "Copies that the Envoy in front knows of, in direct mode.",
    labels=(tracing.MODEL, tracing.VERSION_SERVED),
)
COPIES_READY: Final = Described(
    "headrace.copies.ready",
    Kind.GAUGE,
    "{copy}",
    "Copies that the Envoy in front has found healthy, in direct mode.",
    labels=(tracing.MODEL, tracing.VERSION_SERVED),
)
TOKENS: Final = Described(
    "headrace.tokens",
    Kind.COUNTER,
    "{token}",
    "Tokens that Python has looked at: known from before (cached), found good (verified), or refused.",
    labels=(tracing.RESULT,),
)
JWKS_AGE: Final = Described(
    "headrace.jwks.age",
    Kind.GAUGE,
    "s",
    "Time since the issuer's keys were last fetched well, or since the start.",
    labels=(tracing.ISSUER,),
)
JWKS_KEYS: Final = Described("headrace.jwks.keys", Kind.GAUGE, "{key}", "Keys of the issuer.", labels=(tracing.ISSUER,))
EXPIRY: Final = Described(
    "headrace.certificate.expiry.timestamp",
    Kind.GAUGE,
    "s",
    "When the first of the file's certificates expires that are in use (Unix time).",
    labels=(tracing.CERTIFICATE,),
)
GENERATION: Final = Described(
    "headrace.config.generation", Kind.GAUGE, "{configuration}", "How many configurations were taken up."
)
REFUSED: Final = Described(
    "headrace.config.refused", Kind.GAUGE, "{file}", "1 while the configuration as it is now cannot be used, else 0."
)
READY: Final = Described("headrace.ready", Kind.GAUGE, "{gateway}", "1 while calls may come, as /readyz says, else 0.")
AUDIT_FAILING: Final = Described(
    "headrace.audit.failing", Kind.GAUGE, "{file}", "1 while lines of the audit cannot be written, else 0."
)
MESSAGES: Final = Described(
    "headrace.stream.messages",
    Kind.COUNTER,
    "{message}",
    "Messages of streams; those that were refused have no model.",
    labels=(tracing.MODEL, tracing.DIRECTION),
)
BUILD: Final = Described(
    "headrace.build.info", Kind.GAUGE, "{build}", "Always 1; the version of headrace that runs.", labels=(VERSION,)
)

INSTRUMENTS: Final = (
    *(CALLS, DURATION, GATEWAY_DURATION, ACTIVE, LIMIT, RUNNING, COPIES, COPIES_READY, TOKENS, JWKS_AGE, JWKS_KEYS),
    *(EXPIRY, GENERATION, REFUSED, READY, DROPPED, AUDIT_FAILING, MESSAGES, BUILD),
    *process.INSTRUMENTS,
)
BY_NAME: Final = {described.name: described for described in INSTRUMENTS}
