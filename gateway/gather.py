"""One message to several services. Law: each of them gets it only with a permit of its own.

Some calls concern every service that holds a model's copies, or every service there is. Answers that list models are
merged, and rows of models that the caller may not inspect are left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from gateway.answer import Answer
from gateway.authorize import Authorizer, Permit, not_granted
from gateway.call import Call
from gateway.caller import Caller
from gateway.choose import Route, find, pin, resolve
from gateway.exchange import Exchange
from gateway.forward import forward
from gateway.rpcs import Action
from gateway.upstream import Upstream
from gateway.wire import LENGTH, Budget, Malformed, fields
from mesh.catalog import Catalog
from protos.errors import HeadraceError, unforeseen

log = logging.getLogger("headrace.gateway.gather")

_ROWS = 1  # RepositoryIndexResponse.models and ModelStatisticsResponse.model_stats
_NAME = 1  # of a row


@dataclass(frozen=True, slots=True)
class Passages:
    """Where the message goes, one route for each service, and which models the answers may speak of."""

    ways: tuple[tuple[Permit, Route], ...]
    models: frozenset[str]


def passages(caller: Caller, call: Call, authorizer: Authorizer, catalog: Catalog, upstream: Upstream) -> Passages:
    """The services that the call concerns. Raises HeadraceError: NOT_GRANTED, MODEL_UNKNOWN, VERSION_UNKNOWN."""
    if call.model:
        permit = authorizer.authorize(caller, call)
        model = find(catalog, permit.model)
        if call.version:
            routes = [pin(call, model, resolve(model, call.version))]
        else:
            routes = [Route(model, version, pinned=True, body=call.body) for version in model.versions]
        if call.reaches_server:
            names = frozenset(each.model for each in authorizer.permits(caller, call.rpc.action, catalog))
            if not all(upstream.models_beside(route) <= names for route in routes):
                raise not_granted(caller, call.rpc.action, model.name)
        return Passages(_one_per_service(((permit, route) for route in routes), upstream), frozenset({model.name}))
    permits = authorizer.permits(caller, call.rpc.action, catalog)
    ways = [
        (permit, Route(catalog[permit.model], version, pinned=True, body=call.body))
        for permit in permits
        for version in catalog[permit.model].versions
    ]
    names = frozenset(permit.model for permit in permits)
    if call.rpc.action is Action.MANAGE:
        # What is set for a whole server takes a grant for every model on it.
        ways = [(permit, route) for permit, route in ways if upstream.models_beside(route) <= names]
    if not ways:
        raise not_granted(caller, call.rpc.action)
    return Passages(_one_per_service(ways, upstream), names)


async def merged(passages: Passages, exchange: Exchange, upstream: Upstream) -> Answer:
    """The rows of every service that answers, without those of other models.

    A service that is down is left out, with a line in our log; where none answers, the first failure is raised.
    """
    answers: list[Answer] = []
    failures: list[HeadraceError] = []
    for outcome in await _ask(passages, exchange, upstream):
        if isinstance(outcome, Answer):
            answers.append(outcome)
        else:
            failures.append(outcome)
            log.warning("request %s: one service is left out: %s", exchange.request_id, outcome)
    if not answers:
        raise failures[0]
    try:
        rows = dict.fromkeys(row for answer in answers for row in _rows(answer.body, passages.models))
    except Malformed as error:
        raise unforeseen(exchange.request_id, f"a worker's answer cannot be read: {error}") from None
    return Answer(b"".join(rows), (), ())


async def everywhere(passages: Passages, exchange: Exchange, upstream: Upstream) -> Answer:
    """The first service's answer when all of them agree to the call; else the first failure is raised."""
    outcomes = await _ask(passages, exchange, upstream)
    for outcome in outcomes:
        if isinstance(outcome, HeadraceError):
            raise outcome
    return next(outcome for outcome in outcomes if isinstance(outcome, Answer))


async def _ask(passages: Passages, exchange: Exchange, upstream: Upstream) -> list[Answer | HeadraceError]:
    async def ask(permit: Permit, route: Route) -> Answer | HeadraceError:
        try:
            return await forward(permit, route, exchange, upstream)
        except HeadraceError as error:
            return error

    return await asyncio.gather(*(ask(permit, route) for permit, route in passages.ways))


def _one_per_service(ways: Iterable[tuple[Permit, Route]], upstream: Upstream) -> tuple[tuple[Permit, Route], ...]:
    distinct: dict[Hashable, tuple[Permit, Route]] = {}
    for permit, route in ways:
        distinct.setdefault(upstream.service_of(route), (permit, route))
    return tuple(distinct.values())


def _rows(body: bytes, models: frozenset[str]) -> Iterator[bytes]:
    """The rows of these models, each with its tag and length. Raises Malformed."""
    names = {model.encode() for model in models}
    # A worker may have as much to tell as it likes.
    for number, wire_type, start, row, end in fields(body, budget=Budget(len(body))):
        if number == _ROWS and wire_type == LENGTH:
            for inner, inner_type, _, value, value_end in fields(body, row, end):
                if inner == _NAME and inner_type == LENGTH and body[value:value_end] in names:
                    yield body[start:end]
                    break
