"""Where to: from a permitted call to a `Route`. Law: a pure function; the luck of the draw is passed in."""

from __future__ import annotations

from typing import NamedTuple

import grpc

from gateway.authorize import Permit
from gateway.call import PRIORITY, Call, InSequence, parameter
from gateway.rpcs import Action
from gateway.sequence_id import lot, named, of_caller
from gateway.wire import Extent, replace, string_field
from mesh.catalog import Catalog, Model
from protos.errors import HeadraceError, Reason


class Route(NamedTuple):
    """The model and version whose copies shall answer, and the message as they shall read it.

    `pinned` says whether the version was named, by the caller or (where versions share their copies) by us, and so
    travels as `x-model-version`; otherwise the mesh is free to draw. `sequence` (empty: none) is what the copy is
    chosen by, and knows the sequence by, where the model keeps state between calls; the caller calls it
    `sequence_called`. It is new where it starts, and over with its end. `level` is the call's priority, 1 the highest;
    `stamped` says whether the message is to tell how long it may take.
    """

    model: Model
    version: str
    pinned: bool
    body: bytes
    sequence: str = ""
    sequence_called: str = ""
    sequence_start: bool = False
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
        who = f"{model.name} takes" if most == model.max_request else f"of you {model.name} takes"
        raise HeadraceError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            Reason.TOO_LARGE,
            f"the request has {len(call.body)} bytes; {who} at most {most}",
        )
    infers = call.rpc.action is Action.INFER
    bound = permit.limits.priority
    level = bound if bound > 1 else max(1, call.priority)
    if model.sequence and call.sequence:
        sequence = of_caller(permit.caller, call.sequence)
        version = resolve(model, call.version) if call.version else drawn(model, lot(sequence))
        return in_sequence(call, call.sequence, sequence, model, version, level)
    if call.version:
        return pin(call, model, resolve(model, call.version), level)
    version = drawn(model, draw)
    # Who looks at a model, and at no version of it, sees all that its copies have.
    return _route(call, model, version, level, pinned=infers and model.shares_copies(version))


def pin(call: Call, model: Model, version: str, level: int = 1) -> Route:
    """The route to that version; the message is edited only if it did not already say what the worker shall read."""
    return _route(call, model, version, level)


def in_sequence(call: Call, place: InSequence, sequence: str, model: Model, version: str, level: int) -> Route:
    """The route of a sequence's call to that version, whose copies shall know it by that name."""
    route = _route(call, model, version, level, (place.field, named(place, sequence)))
    return route._replace(
        sequence=sequence, sequence_called=place.id, sequence_start=place.starts, sequence_end=place.ends
    )


def _route(
    call: Call, model: Model, version: str, level: int, *more: tuple[Extent, bytes], pinned: bool = True
) -> Route:
    """The route; what the worker shall read is what the call says, with the version that is pinned and that level."""
    changes: list[tuple[Extent | None, bytes]] = [*more]
    if pinned and call.version != version:
        changes.append((call.version_field, string_field(call.rpc.version, version)))
    if level not in (1, call.priority) and call.rpc.action is Action.INFER:
        changes.append((call.priority_field, parameter(PRIORITY, level)))
    body = replace(call.body, *changes) if changes else call.body
    stamped = model.timeout_parameter and not call.timed and call.rpc.name == "ModelInfer"
    return Route(model, version, pinned, body, level=level, stamped=stamped)


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


def drawn(model: Model, draw: float) -> str:
    """The version that `draw` in [0, 1) falls on by the model's weights."""
    point = draw * 100
    for version, weight in model.weights:
        point -= weight
        if point < 0:
            return version
    return model.weights[-1][0]
