"""Proxyless mode: gRPC's own xDS client is the mesh. Law: what it cannot do is refused at start, and never ignored.

A control plane that speaks Istio's gRPC flavour tells the client where `xds:///HOST:PORT` leads: routes by headers,
weights, retries by status, limits of running calls, a ring for sequences, mutual TLS with certificates from files.
It cannot bound a single try, keep a budget of retries, retry for anything but a status, mirror calls, eject copies that
fail in a row, or limit the calls that wait. A model that asks for one of these is a mistake. Where the configuration
does not say, there is none of it in this mode: `retries.on` is `[unavailable]`, `retries.budget`, `breaker.pending` and
`ejection` are null. Deadlines are the gateway's own in every mode; routes should have no timeout, for gRPC ends calls
one to two seconds before it (https://github.com/grpc/grpc/issues/34547).
Sources: https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md; gRFC A27, A28 (routes), A29 (certificates),
A32 (limits: max_requests alone), A42 (ring hash), A44 (retries), A50 (ejection by success rate and failure percentage
alone, which Istio does not have), https://github.com/grpc/proposal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import grpc.aio
from grpc.experimental import insecure_channel_credentials

from gateway.by_host import ByHost
from gateway.upstream import CHANNEL, OF_SERVER, Endpoints, tried_again
from mesh.catalog import Catalog, Model, RetryOn

BOOTSTRAP_FILE: Final = "GRPC_XDS_BOOTSTRAP"
BOOTSTRAP_TEXT: Final = "GRPC_XDS_BOOTSTRAP_CONFIG"
"""What gRPC finds its control plane by (gRFC A27); it looks for the file first."""

_SHORT: Final = re.compile(r"[^.:]+(\.[^.:]+)?(\.svc)?:\d+")  # names by which Envoys know a service, too
_RETRY_ON: Final[tuple[RetryOn, ...]] = ("unavailable", "resource-exhausted", "cancelled")


class Proxyless(ByHost):
    """The mesh by gRPC's xDS client, which finds its control plane in the process's environment."""

    def __init__(self, catalog: Catalog, endpoints: Endpoints) -> None:
        def dial(host: str) -> grpc.aio.Channel:
            return _dial(host, max(model.max_request for model in catalog.values() if model.host == host))

        super().__init__(catalog, dial, endpoints)


def _dial(host: str, largest: int) -> grpc.aio.Channel:
    """A channel that is secured as the control plane says: mutual TLS, or plain text where it says nothing.

    A call is tried again if it has no more than `largest` bytes.
    """
    plain = insecure_channel_credentials()  # type: ignore[no-untyped-call] # types-grpcio has none
    options = (*CHANNEL, *OF_SERVER, ("grpc.default_authority", host), tried_again(largest))
    return grpc.aio.secure_channel(f"xds:///{host}", grpc.xds_channel_credentials(plain), options=options)


def mistakes(model: Model) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What the model asks for that gRPC's client cannot do: (where in the model, what)."""
    if _SHORT.fullmatch(model.host):
        yield (
            ("host",),
            f"{model.host}: gRPC's xDS client finds a service by its full name, NAME.NAMESPACE.svc.cluster.local",
        )
    if model.retries.per_try is not None:
        yield ("retries", "per_try"), "gRPC's xDS client bounds no single try"
    for index, condition in enumerate(model.retries.on if "on" in model.retries.model_fields_set else ()):
        if condition not in _RETRY_ON:
            what = f"{condition}: gRPC's xDS client retries by status alone: {', '.join(_RETRY_ON)}"
            yield ("retries", "on", index), what
    if "budget" in model.retries.model_fields_set and model.retries.budget is not None:
        yield ("retries", "budget"), "gRPC's xDS client keeps no budget of retries"
    if "pending" in model.breaker.model_fields_set and model.breaker.pending is not None:
        yield ("breaker", "pending"), "gRPC's xDS client does not limit the calls that wait"
    if "ejection" in model.model_fields_set and model.ejection is not None:
        yield ("ejection",), "gRPC's xDS client ejects no copies for errors in a row"
    if model.shadow is not None:
        yield ("shadow",), "gRPC's xDS client mirrors no calls"


def carried_out(model: Model) -> Model:
    """The model as gRPC's client does it: without what was not written and it cannot do."""
    on = model.retries.on if "on" in model.retries.model_fields_set else _RETRY_ON[:1]
    retries = model.retries.model_copy(update={"on": on, "budget": None})
    breaker = model.breaker.model_copy(update={"pending": None})
    return model.model_copy(update={"retries": retries, "breaker": breaker, "ejection": None})


def mistake_in_bootstrap(environ: Mapping[str, str]) -> str | None:
    """Why gRPC would not find a control plane, in a sentence: each call would fail. None: it would try."""
    name = BOOTSTRAP_FILE if BOOTSTRAP_FILE in environ else BOOTSTRAP_TEXT
    if name not in environ:
        return (
            f"upstream.mode xds needs gRPC's bootstrap: its file in {BOOTSTRAP_FILE}, or its text in {BOOTSTRAP_TEXT}"
        )
    try:
        text = Path(environ[name]).read_text() if name == BOOTSTRAP_FILE else environ[name]
        found = json.loads(text)
    except OSError as error:
        return f"{name}: {environ[name]} cannot be read: {error.strerror}"
    except ValueError:
        return f"{name}: gRPC's bootstrap is no JSON"
    servers = found.get("xds_servers") if isinstance(found, dict) else None
    if not isinstance(servers, list) or not servers:
        return f"{name}: gRPC's bootstrap names no xds_servers"
    return None
