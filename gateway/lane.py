"""What the express lane is taught. Law: only what it can carry by itself, and only while what that rests on holds.

An Envoy at the public address hands us each call that it does not know (docs/decisions/0021). With our answer it may
learn: this very token may infer with this model and version until then, and such calls go there. Our word for all that
lessons rest on, the keys above all, is the generation. It asks for it, and at another one forgets everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, Protocol

from gateway.audit import Audit
from gateway.authorize import Permit
from gateway.call import Call
from gateway.choose import Route
from gateway.settings import Settings
from mesh.catalog import Model
from protos.contract import LESSON_KEY, SERVICE
from protos.metrics.snapshot import Snapshot
from protos.spans import Spans

PATH: Final = f"/{SERVICE}/ModelInfer"
ASK_PATH: Final = "/headrace.Lane/Generation"
_NONE: Final = "-"
_ANY: Final = "-"  # number of calls
_LONGEST: Final = 8192  # characters of a lesson; a connection does not survive headers that are too long


class Door(Protocol):
    """The Envoy in front, once it is there."""

    address: str
    open: bool  # whether callers come in

    async def find(self, *settings: Settings) -> None:
        """Know where the copies of all these settings are, and of no others; returns once it does, or may do."""

    def tell(self, settings: Settings, *, teaches: bool) -> None:
        """Have what else is behind it decide by these settings, too; `teaches`: whether the lane may be taught that."""

    def drain(self) -> None:
        """Say that we go to what else is behind it."""

    async def counted(self) -> Sequence[Snapshot]:
        """What the Envoy has counted, and what else is behind the door; it takes a second at most."""

    async def leave(self, patience: float) -> None:
        """Send callers elsewhere; returns when no call runs inside any more, or after so many seconds."""


@dataclass(frozen=True)
class Front:
    """How the Envoy in front is had: it calls at `socket`, and finds copies by the name `cluster_of` gives them.

    It asks for the generation at `asked`, if it asks this process. `shared`: the folder of what the processes behind it
    keep together, where there are several, of which this has the `place`, from 0. `open` gives the door, which is there
    while inside, and whose own calls are audited and traced there. `numbers`: the socket at which this process, where
    it is not the first, tells it what it has counted.
    """

    socket: Path
    asked: Path | None
    shared: Path | None
    place: int
    cluster_of: Callable[[Settings, Model, str], str]
    open: Callable[[Audit | None, Spans], AbstractAsyncContextManager[Door]]
    numbers: Path | None = None


class Generation:
    """A word for what lessons rest on now; `parts` tells it, None while there shall be no lessons.

    It is the same in every process for the same parts, which their repr tells from all others: one lane may ask several
    gateways, or be taught by several, and each would else make it forget what the others taught.
    """

    def __init__(self, parts: Callable[[], Hashable | None]) -> None:
        self._parts = parts
        self._seen: Hashable | None = None
        self._word = ""
        self._one = Lock()

    def word(self) -> str:
        """Another one whenever a part is another; empty while there shall be no lessons. For any thread."""
        with self._one:
            parts = self._parts()
            if parts != self._seen:
                self._seen = parts
                self._word = "" if parts is None else hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
            return self._word


@dataclass(frozen=True)
class Lane:
    """Teaches.

    `leeway`: issuer -> seconds that its tokens are good beyond `exp`; `tries`: whether it is for the lane, and not for
    the mesh, to try calls again.
    """

    generation: Generation
    leeway: Mapping[str, float]
    cluster_of: Callable[[Model, str], str]
    tries: bool

    def lesson(
        self, since: str, call: Call, permit: Permit, route: Route, lease: Callable[[Permit], int | None]
    ) -> tuple[tuple[str, str], ...]:
        """The metadata that tells what becomes of such calls; none where the lane cannot carry them.

        What it sees of a call before it carries it: token, model, version, and that nothing else in it matters. `since`
        is the generation's word from before the token was verified: what was decided under another one teaches nothing.
        `lease` counts calls in advance, where they are counted: so many may be carried within `limits.LEASE`.
        """
        if not since or since != self.generation.word() or not self._teachable(call, permit, route):
            return ()
        calls = lease(permit)
        if calls == 0:
            return ()
        told = (since, *self._told(call, permit, route), _ANY if calls is None else calls)
        lesson = " ".join(map(str, told))
        return ((LESSON_KEY, lesson),) if len(lesson) <= _LONGEST else ()

    def _told(self, call: Call, permit: Permit, route: Route) -> tuple[str | int, ...]:
        model, caller = route.model, permit.caller
        return (
            int((caller.expires_at + self.leeway[caller.issuer]) * 1000),
            int(model.timeout * 1000),
            permit.limits.largest(model.max_request),
            int(model.forward_token),
            model.tries if self.tries and model.retries.on else 0,
            ",".join(sorted(self._statuses(model))) or _NONE,
            ";".join(f"{share}={cluster}" for cluster, share in self._shares(route).items()),
            model.host,
            caller.name,
            permit.grant,
            model.name,
            call.version or _NONE,
            int(route.pinned),
        )

    def _teachable(self, call: Call, permit: Permit, route: Route) -> bool:
        """Whether the message goes on as it is, to whichever copy, whenever; and nobody counts how many run."""
        model = route.model
        if call.rpc.path != PATH or route.body is not call.body or model.timeout_parameter or model.sequence:
            return False
        if permit.limits.concurrency is not None or permit.limits.priority > 1 or model.admission is not None:
            return False
        return route.pinned or not any(model.shares_copies(version) for version, _ in model.weights)

    def _shares(self, route: Route) -> Mapping[str, int]:
        """Cluster -> its share of such calls, in percent."""
        if route.pinned:
            return {self.cluster_of(route.model, route.version): 100}
        shares: dict[str, int] = {}
        for version, weight in route.model.weights:
            cluster = self.cluster_of(route.model, version)
            shares[cluster] = shares.get(cluster, 0) + weight
        return shares

    def _statuses(self, model: Model) -> frozenset[str]:
        """For which statuses of a worker's a call is tried again, as Envoy spells them."""
        known = {"cancelled", "resource-exhausted"}
        return frozenset(on if on in known else "unavailable" for on in model.retries.on)
