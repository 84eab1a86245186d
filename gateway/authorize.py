"""May they: from a `Caller` and a model to a `Permit`. Law: no permit without a grant; default is no.

Nothing but `authorize` makes a `Permit`, and `gateway.forward` takes nothing else, so a call that was not authorised
cannot be forwarded by mistake.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple
from weakref import WeakKeyDictionary

import grpc

from gateway.call import Call
from gateway.caller import Caller
from gateway.grants import Grant, Grants
from gateway.limits import NO_LIMITS, Limits, widest
from gateway.rpcs import Action
from protos.errors import HeadraceError, Reason


class Permit(NamedTuple):
    """One call's outcome: this caller may do this with this model, within these limits.

    `grant` names the first grant of the configuration that says so.
    """

    caller: Caller
    model: str
    action: Action
    limits: Limits = NO_LIMITS
    grant: str = ""


class Right(NamedTuple):
    """What several grants give together: the widest limits; and the name of the first, by its place."""

    limits: Limits
    place: int
    grant: str


@dataclass(frozen=True, slots=True)
class Names:
    """Models and what holds for each: by name, in which what holds for its beginnings is, too, or by how they begin."""

    exact: Mapping[str, Right]
    prefixes: Mapping[str, Right]

    def __bool__(self) -> bool:
        return bool(self.exact or self.prefixes)

    def __contains__(self, model: str) -> bool:
        return self.right(model) is not None

    def right(self, model: str) -> Right | None:
        """What holds for the model; None where it is not among these."""
        if (right := self.exact.get(model)) is not None:
            return right
        found = [right for prefix, right in self.prefixes.items() if model.startswith(prefix)]
        return _together(found) if found else None


class Authorizer:
    """Decides by the grants; what a caller's claims are worth is worked out once per caller."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._grants = Grants(grants)
        self._rights: WeakKeyDictionary[Caller, Mapping[Action, Names]] = WeakKeyDictionary()

    def authorize(self, caller: Caller, call: Call) -> Permit:
        """The permit for what the call asks.

        Raises HeadraceError: NOT_GRANTED, in the same words for models that do not exist; SHARED_MEMORY_REFUSED
        where a tensor is in shared memory, which takes a grant to manage the model.
        """
        action = call.rpc.action
        right = self.granted(caller, action).right(call.model)
        if right is None:
            raise not_granted(caller, action, call.model)
        if call.shared_memory and call.model not in self.granted(caller, Action.MANAGE):
            raise shared_memory_refused()
        return Permit(caller, call.model, action, right.limits, right.grant)

    def admit(self, caller: Caller, action: Action) -> None:
        """Let the caller's message be read. Raises HeadraceError NOT_GRANTED where it may do this with no model."""
        if not self.granted(caller, action):
            raise not_granted(caller, action)

    def keep(self, caller: Caller, models: Iterable[str]) -> None:
        """Let go on what has begun with these models. Raises HeadraceError NOT_GRANTED where a grant is gone."""
        self.admit(caller, Action.INFER)
        for model in models:
            if model not in self.granted(caller, Action.INFER):
                raise not_granted(caller, Action.INFER, model)

    def permits(self, caller: Caller, action: Action, models: Iterable[str]) -> tuple[Permit, ...]:
        """A permit for each of the models with which the caller may do this."""
        granted = self.granted(caller, action)
        found = ((model, granted.right(model)) for model in models)
        return tuple(Permit(caller, model, action, grant=right.grant) for model, right in found if right is not None)

    def granted(self, caller: Caller, action: Action) -> Names:
        """The models with which the caller may do this."""
        rights = self._rights.get(caller)
        if rights is None:
            rights = self._rights[caller] = rights_of(caller, self._grants)
        return rights[action]


def not_granted(caller: Caller, action: Action, model: str = "") -> HeadraceError:
    """The answer to a caller without a grant; it does not tell whether the model exists."""
    return HeadraceError(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.NOT_GRANTED,
        f"you have no grant to {action} this model" if model else f"you have no grant to {action} any model",
        private=f"{caller.name} {action} {model!r}",
    )


def shared_memory_refused() -> HeadraceError:
    """The answer where memory is to be shared with a worker; the same for each thing that it takes and is not there."""
    return HeadraceError(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.SHARED_MEMORY_REFUSED,
        "shared memory takes a grant to manage the model, and all of its copies on the gateway's own machine; "
        "send the tensors in the request",
    )


def rights_of(caller: Caller, grants: Grants) -> Mapping[Action, Names]:
    """The union of the grants that match the caller."""
    patterns: dict[Action, dict[str, list[Right]]] = {action: defaultdict(list) for action in Action}
    for place, grant in enumerate(grants.of(caller)):
        for action in grant.actions:
            for model in grant.models:
                patterns[action][model].append(Right(grant.limits, place, grant.name))
    return {action: _names(rights) for action, rights in patterns.items()}


def _names(patterns: Mapping[str, list[Right]]) -> Names:
    prefixes = {pattern[:-1]: rights for pattern, rights in sorted(patterns.items()) if pattern.endswith("*")}
    exact = {
        model: _together(
            [*rights, *(each for prefix, more in prefixes.items() if model.startswith(prefix) for each in more)]
        )
        for model, rights in patterns.items()
        if not model.endswith("*")
    }
    return Names(exact, {prefix: _together(rights) for prefix, rights in prefixes.items()})


def _together(rights: Sequence[Right]) -> Right:
    first = min(rights, key=attrgetter("place"))
    return first._replace(limits=widest(right.limits for right in rights))
