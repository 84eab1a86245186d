"""What calls are decided by. Law: a call sees one configuration from its beginning to its end.

Another one is other steps; channels that only the old ones have are closed when the last call that uses them has ended.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Final

from gateway.admission import Admission
from gateway.authorize import Authorizer
from gateway.counted import Messages
from gateway.grants import Grant, named
from gateway.lane import Front, Generation, Lane
from gateway.limits import Limits, Rate
from gateway.local import Local
from gateway.pinned import Pinned
from gateway.refusals import Refusals
from gateway.settings import Limits as Configured
from gateway.settings import Settings
from gateway.steps import Steps
from gateway.upstream import Upstream
from gateway.verify import Verifier

_DECIDE: Final = {"issuers", "grants", "models", "upstream"}


@dataclass(frozen=True)
class Built:
    """What stays while the process runs; `upstream` makes the way to the workers of some settings."""

    verifier: Verifier
    admission: Admission
    local: Local
    generation: Generation
    refusals: Refusals
    front: Front | None
    upstream: Callable[[Settings], Upstream]
    draw: Callable[[], float]
    pinned: Pinned
    account: Callable[[], None]
    messages: Messages


class InForce:
    """The settings in force, and the steps that follow from them; `decided_by` is another where these are.

    `taken`: how many there have been; `refused`: whether those that the file has now cannot be.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.decided_by = ""
        self.taken = 0
        self.refused = False
        self.catalog = settings.catalog
        self._steps: Steps | None = None

    @property
    def steps(self) -> Steps:
        """The steps of a call that comes now."""
        if self._steps is None:
            raise RuntimeError("nothing is in force yet")
        return self._steps

    def take(self, settings: Settings, built: Built, *, teaches: bool = True) -> None:
        """Have the next call decided by these settings; with `teaches`, the lane is taught what is decided."""
        self._steps = Steps(
            verifier=built.verifier,
            authorizer=Authorizer(grants_of(settings)),
            admission=built.admission,
            catalog=settings.catalog,
            upstream=self._upstream(settings, built),
            local=built.local,
            lane=_lane(settings, built) if teaches else None,
            refusals=built.refusals,
            draw=built.draw,
            pinned=built.pinned,
            account=built.account,
            messages=built.messages,
            now=lambda: self.steps,
        )
        self.settings, self.catalog = settings, settings.catalog
        self.taken += 1
        # By other code, too: lessons may outlive the process that gave them.
        self.decided_by = version("headrace") + settings.model_dump_json(include=_DECIDE)

    def teach(self, built: Built) -> None:
        """Have the lane taught what is decided from now on."""
        self._steps = replace(self.steps, lane=_lane(self.settings, built))

    def refuse(self, refused: bool) -> None:  # noqa: FBT001 - a value
        """Note whether the settings that the file has now can be in force."""
        self.refused = refused

    async def close(self) -> None:
        """End every channel; calls under way are cancelled."""
        await self.steps.upstream.close()

    def _upstream(self, settings: Settings, built: Built) -> Upstream:
        same = (settings.models, settings.upstream) == (self.settings.models, self.settings.upstream)
        return self._steps.upstream if self._steps is not None and same else built.upstream(settings)


def _lane(settings: Settings, built: Built) -> Lane | None:
    """What teaches the Envoy in front, if there is one; one that is not ours finds copies and tries again by itself."""
    leeway = {issuer.issuer: issuer.leeway for issuer in settings.issuers}
    if built.front is None:
        external = settings.listen.express == "external"
        return Lane(built.generation, leeway, lambda model, _version: model.host, tries=False) if external else None
    cluster_of = functools.partial(built.front.cluster_of, settings)
    return Lane(built.generation, leeway, cluster_of, tries=settings.upstream.mode == "direct")


def grants_of(settings: Settings) -> tuple[Grant, ...]:
    """The grants that are configured, in their order."""
    return tuple(
        Grant(
            grant.to.issuer,
            grant.to.claims,
            grant.models,
            frozenset(grant.actions),
            limits_of(grant.limits),
            grant.name or named(grant.to.claims),
        )
        for grant in settings.grants
    )


def limits_of(configured: Configured) -> Limits:
    """The limits that are configured; the burst is what a second gives, where none is named."""
    rate = None
    if configured.rate is not None:
        rate = Rate(configured.rate, configured.burst or max(1, math.ceil(configured.rate)))
    return Limits(rate, configured.concurrency, configured.request, configured.priority)
