"""Metadata on its way. Law: what the mesh and workers decide by is written here and never taken from a caller.

A caller's key that any proxy could read as one of ours (other case, `_` or `.` for `-`, binary) is dropped, as are
hop-by-hop keys, what steers proxies and their traces, and, unless the model asks for it, the token. What is left is
bounded: what a proxy or a worker would refuse for its size looks to the mesh like a failure of the worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gateway.authorize import Permit
from gateway.call import malformed
from gateway.choose import Route
from protos.contract import MODEL_NAME, MODEL_VERSION, SEQUENCE_ID
from protos.tracing import CONTEXT_KEYS, REQUEST_ID_KEY

Pairs = Iterable[tuple[str, str | bytes]]

CALLER: Final = "x-caller"
GRANT: Final = "x-grant"
"""The name of the grant by which the call is permitted."""
_AUTHORIZATION: Final = "authorization"

OURS: Final = CONTEXT_KEYS | {MODEL_NAME, MODEL_VERSION, CALLER, GRANT, REQUEST_ID_KEY, SEQUENCE_ID}
HOP: Final = frozenset(
    {
        "b3",
        "cf-connecting-ip",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "server",
        "sw8",
        "te",
        "trailer",
        "transfer-encoding",
        "triton-grpc-error",
        "true-client-ip",
        "uber-trace-id",
        "upgrade",
        "user-agent",
        "via",
        "x-amzn-trace-id",
        "x-client-trace-id",
        "x-cloud-trace-context",
        "x-cluster-client-ip",
        "x-real-ip",
    }
)
HOP_PREFIXES: Final = (
    *(":", "grpc-", "ot-tracer-", "sw8-", "uberctx-", "x-b3-", "x-datadog-", "x-envoy-", "x-forwarded-"),
    *("x-headrace-", "x-istio-", "x-original-", "x-ot-"),
)
MOST: Final = 50  # of a caller's keys; an Envoy takes 100, its own and ours among them
LARGEST: Final = 6 * 1024  # bytes of these but for the token; gRPC servers take 8 KiB for sure
EACH: Final = 32  # bytes that each counts besides (RFC 7541, section 4.1)


def to_worker(received: Pairs, permit: Permit, route: Route, request_id: str) -> list[tuple[str, str | bytes]]:
    """What a worker gets, but for the trace context: the caller's own metadata, and then our words.

    Raises HeadraceError REQUEST_MALFORMED for text that gRPC does not carry, and for too much of it.
    """
    kept = _of_caller(received, token=route.model.forward_token)
    kept.append((MODEL_NAME, route.model.name))
    if route.pinned:
        kept.append((MODEL_VERSION, route.version))
    if route.sequence:
        kept.append((SEQUENCE_ID, route.sequence))
    kept.append((CALLER, permit.caller.name))
    kept.append((GRANT, permit.grant))
    kept.append((REQUEST_ID_KEY, request_id))
    return kept


def to_caller(received: Pairs) -> tuple[tuple[str, str | bytes], ...]:
    """What of a worker's response metadata the caller gets."""
    return tuple(pair for pair in received if _passes(pair[0]))


def _of_caller(received: Pairs, *, token: bool) -> list[tuple[str, str | bytes]]:
    """What passes, and the token where it shall; in one go, for it is on the hot path."""
    kept: list[tuple[str, str | bytes]] = []
    size = 0
    for pair in received:
        key, value = pair
        if _passes(key):
            size += len(key) + len(value) + EACH
        elif not (token and key == _AUTHORIZATION):
            continue
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise malformed(f"the metadata {key} holds what is not printable ASCII")
        kept.append(pair)
    if len(kept) > MOST:
        raise malformed(f"the metadata has {len(kept)} entries for the worker; {MOST} is the most")
    if size > LARGEST:
        raise malformed(f"the metadata has {size} bytes for the worker; {LARGEST} is the most")
    return kept


@lru_cache(maxsize=1024)
def _passes(key: str) -> bool:
    plain = key.lower().replace("_", "-").replace(".", "-").removesuffix("-bin")
    return plain not in OURS and plain not in HOP and plain != _AUTHORIZATION and not plain.startswith(HOP_PREFIXES)
