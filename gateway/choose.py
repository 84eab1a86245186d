"""Where to: from a permitted call to a `Route`. Law: a pure function; the luck of the draw is passed in."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import grpc

from gateway.authorize import Permit
from gateway.call import PRIORITY, Call, number_parameter
from gateway.rpcs import Action
from gateway.wire import Extent, replace, string_field
from mesh.catalog import Catalog, Model
from protos.errors import HeadraceError, Reason


class Route(NamedTuple):
    """The model and version whose copies shall answer, and the message as they shall read it.

    `pinned` says whether the version was named, by the caller or (where versions share their copies) by us, and so
    travels as `x-model-version`; otherwise the mesh is free to draw. `sequence` (empty: none) is what the copy is
    chosen by where the model keeps state between calls, until `sequence_end`. `level` is the call's priority, 1 the
    highest; `stamped` says whether the message is to tell how long it may take.
    """

    model: Model
    version: str
    pinned: bool
    body: bytes
    sequence: str = ""
    sequence_end: bool = False
    level: int = 1
    stamped: bool = False


def choose(call: Call, permit: Permit, catalog: Catalog, draw: float) -> Route:
    """The route of a permitted call; `draw` in [0, 1) decides among the weights where no version is pinned.

    Raises HeadraceError: MODEL_UNKNOWN, VERSION_UNKNOWN, TOO_LARGE.
    """
    model = find(catalog, permit.model)
    most = permit.limits.largest(model.max_request)
    if len(call.body) > most:
        raise HeadraceError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            Reason.TOO_LARGE,
            f"the request has {len(call.body)} bytes; {model.name} takes at most {most}",
        )
    level = max(call.priority, permit.limits.priority)
    if call.version:
        return pin(call, model, resolve(model, call.version), level)
    if model.sequence and call.sequence:
        return pin(call, model, drawn(model, lot(call.sequence)), level)
    version = drawn(model, draw)
    if model.shares_copies(version):
        return pin(call, model, version, level)
    return Route(
        model, version, pinned=False, body=_told(call, call.version, level), level=level, stamped=_stamped(call, model)
    )


def pin(call: Call, model: Model, version: str, level: int = 1) -> Route:
    """The route to that version; the message is edited only if it did not already say what the worker shall read."""
    return Route(
        model,
        version,
        pinned=True,
        body=_told(call, version, level),
        sequence=call.sequence if model.sequence else "",
        sequence_end=call.sequence_end and model.sequence,
        level=level,
        stamped=_stamped(call, model),
    )


def _told(call: Call, version: str, level: int) -> bytes:
    """The message with that version, and a priority that is no better than the level."""
    changes: list[tuple[Extent | None, bytes]] = []
    if call.version != version:
        changes.append((call.version_field, string_field(call.rpc.version, version)))
    if level > 1 and level != call.priority and call.rpc.action is Action.INFER:
        changes.append((call.priority_field, number_parameter(PRIORITY, level)))
    return replace(call.body, *changes) if changes else call.body


def _stamped(call: Call, model: Model) -> bool:
    return model.timeout_parameter and not call.timed and call.rpc.name == "ModelInfer"


def find(catalog: Catalog, name: str) -> Model:
    """The model of that name. Raises HeadraceError MODEL_UNKNOWN."""
    model = catalog.get(name)
    if model is None:
        raise HeadraceError(grpc.StatusCode.NOT_FOUND, Reason.MODEL_UNKNOWN, f"there is no model {name!r}")
    return model


def resolve(model: Model, asked: str) -> str:
    """The version that the caller's version or alias names. Raises HeadraceError VERSION_UNKNOWN."""
    version = model.resolve(asked)
    if version is None:
        raise HeadraceError(
            grpc.StatusCode.NOT_FOUND, Reason.VERSION_UNKNOWN, f"{model.name} has no version or alias {asked!r}"
        )
    return version


def lot(sequence: str) -> float:
    """What a sequence draws, in [0, 1): the same for each of its calls."""
    return int.from_bytes(blake2b(sequence.encode(), digest_size=6).digest()) / 2**48


def drawn(model: Model, draw: float) -> str:
    """The version that `draw` in [0, 1) falls on by the model's weights."""
    point = draw * 100
    for version, weight in model.weights:
        point -= weight
        if point < 0:
            return version
    return model.weights[-1][0]
