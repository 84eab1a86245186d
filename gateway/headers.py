"""Metadata on its way. Law: what the mesh and workers decide by is written here and never taken from a caller.

A caller's key that any proxy could read as one of ours (other case, `_` or `.` for `-`, binary) is dropped, as are
hop-by-hop keys, what steers proxies and their traces, and, unless the model asks for it, the token.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from gateway.authorize import Permit
from gateway.call import malformed
from gateway.choose import Route
from protos.contract import MODEL_NAME, MODEL_VERSION, SEQUENCE_ID
from protos.tracing import CONTEXT_KEYS, REQUEST_ID_KEY

Pairs = Iterable[tuple[str, str | bytes]]

CALLER: Final = "x-caller"
_IN_A_HEADER: Final = "!#$&'()*+,/:;=?@[]"  # stays as it is; all else outside of URLs' plain characters is escaped

_OURS: Final = CONTEXT_KEYS | {MODEL_NAME, MODEL_VERSION, CALLER, REQUEST_ID_KEY, SEQUENCE_ID}
_HOP: Final = frozenset(
    {
        "b3",
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
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-client-trace-id",
        "x-real-ip",
    }
)
_HOP_PREFIXES: Final = (":", "grpc-", "x-b3-", "x-envoy-", "x-forwarded-", "x-istio-", "x-original-", "x-headrace-")


def to_worker(received: Pairs, permit: Permit, route: Route, request_id: str) -> list[tuple[str, str | bytes]]:
    """What a worker gets, but for the trace context: the caller's own metadata, and then our words.

    Raises HeadraceError REQUEST_MALFORMED for text that gRPC does not carry.
    """
    kept = [(key, _sound(key, value)) for key, value in received if _passes(key, token=route.model.forward_token)]
    kept.append((MODEL_NAME, route.model.name))
    if route.pinned:
        kept.append((MODEL_VERSION, route.version))
    if route.sequence:
        kept.append((SEQUENCE_ID, quote(route.sequence, safe=_IN_A_HEADER)))
    kept.append((CALLER, permit.caller.name))
    kept.append((REQUEST_ID_KEY, request_id))
    return kept


def to_caller(received: Pairs) -> tuple[tuple[str, str | bytes], ...]:
    """What of a worker's response metadata the caller gets."""
    return tuple((key, value) for key, value in received if _passes(key, token=False))


def _sound(key: str, value: str | bytes) -> str | bytes:
    if isinstance(value, str) and not (value.isascii() and value.isprintable()):
        raise malformed(f"the metadata {key} holds what is not printable ASCII")
    return value


@lru_cache(maxsize=1024)
def _passes(key: str, *, token: bool) -> bool:
    plain = key.lower().replace("_", "-").replace(".", "-").removesuffix("-bin")
    if plain == "authorization":
        return token and key == "authorization"
    return plain not in _OURS and plain not in _HOP and not plain.startswith(_HOP_PREFIXES)
