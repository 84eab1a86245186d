"""May they: from a `Caller` and a model to a `Permit`. Law: no permit without a grant; default is no.

Nothing but `authorize` makes a `Permit`, and `gateway.forward` takes nothing else, so a call that was not authorised
cannot be forwarded by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import grpc

from gateway.call import Call
from gateway.caller import Caller
from gateway.grants import Grant, Grants
from gateway.rpcs import Action
from protos.errors import HeadraceError, Reason


class Permit(NamedTuple):
    """One call's outcome: this caller may do this with this model."""

    caller: Caller
    model: str
    action: Action


@dataclass(frozen=True, slots=True)
class Names:
    """A set of model names: some by name, some by how they begin."""

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.exact or self.prefixes)

    def __contains__(self, model: str) -> bool:
        return model in self.exact or model.startswith(self.prefixes)


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
        if call.model not in self.granted(caller, action):
            raise not_granted(caller, action, call.model)
        if call.shared_memory and call.model not in self.granted(caller, Action.MANAGE):
            raise HeadraceError(
                grpc.StatusCode.INVALID_ARGUMENT,
                Reason.SHARED_MEMORY_REFUSED,
                "shared memory takes a grant to manage the model; send the tensors in the request",
            )
        return Permit(caller, call.model, action)

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
        return tuple(Permit(caller, model, action) for model in models if model in granted)

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


def rights_of(caller: Caller, grants: Grants) -> Mapping[Action, Names]:
    """The union of the grants that match the caller."""
    patterns: dict[Action, set[str]] = {action: set() for action in Action}
    for grant in grants.of(caller):
        for action in grant.actions:
            patterns[action].update(grant.models)
    return {action: _names(models) for action, models in patterns.items()}


def _names(patterns: set[str]) -> Names:
    prefixes = tuple(sorted(pattern[:-1] for pattern in patterns if pattern.endswith("*")))
    return Names(frozenset(pattern for pattern in patterns if not pattern.endswith("*")), prefixes)
