"""Whether there is room for a permitted call. Law: where there is a limit, no call goes on without having been counted.

Of a caller and a model: how often and how many at a time (`gateway.quotas`). Of a model: as many at a time as it has
turned out to bear (`gateway.adaptive`), which each process finds out for itself. What is too much is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from gateway.adaptive import Adaptive
from gateway.answer import overloaded
from gateway.authorize import Permit
from gateway.choose import Route
from gateway.quotas import Quotas
from mesh.catalog import Admission as Bounds
from protos.errors import HeadraceError, Reason

_FREE: Final[AbstractContextManager[None]] = nullcontext()


class Admission:
    """Admits calls by their permits and routes; `clock` is monotonic, in seconds."""

    def __init__(self, quotas: Quotas, clock: Callable[[], float]) -> None:
        self.quotas = quotas
        self._clock = clock
        self._models: dict[str, Adaptive] = {}

    def told(self) -> Mapping[str, Adaptive]:
        """What has been found out of each model that calls have been admitted to."""
        return self._models

    def running(self, permit: Permit, route: Route) -> AbstractContextManager[None]:
        """Count a call while it runs. Raises HeadraceError, on entering: RATE_LIMITED, OVERLOADED."""
        most, bounds = permit.limits.concurrency, route.model.admission
        if bounds is None:
            return _FREE if most is None else self.quotas.held(permit, most)
        borne = self._borne(permit, route, bounds)
        return borne if most is None else _both(self.quotas.held(permit, most), borne)

    def streaming(self, permit: Permit) -> AbstractContextManager[None]:
        """Count what a stream has to do with a model, which is no measure of what the model bears; the same errors."""
        most = permit.limits.concurrency
        return _FREE if most is None else self.quotas.held(permit, most, tells=False)

    @contextmanager
    def _borne(self, permit: Permit, route: Route, bounds: Bounds) -> Iterator[None]:
        adaptive, caller = self._of(route.model.name, bounds), permit.caller.name
        if not adaptive.admits(caller, route.level):
            raise overloaded(f"{adaptive.running} calls run, the limit is {adaptive.limit}", adaptive.typical)
        alone, began = adaptive.began(caller), self._clock()
        try:
            yield
        except HeadraceError as error:
            if error.reason is Reason.OVERLOADED:
                adaptive.turned_away(self._clock())
            elif error.reason is Reason.DEADLINE:
                self._told(adaptive, began, alone=alone)
            raise
        except BaseException:
            adaptive.left(self._clock() - began, self._clock())
            raise
        else:
            self._told(adaptive, began, alone=alone)
        finally:
            adaptive.ended(caller)

    def _told(self, adaptive: Adaptive, began: float, *, alone: bool) -> None:
        now = self._clock()
        adaptive.told(now - began, now, alone=alone)

    def _of(self, model: str, bounds: Bounds) -> Adaptive:
        known = self._models.get(model)
        if known is None or known.bounds != bounds:
            known = self._models[model] = Adaptive(bounds, self._clock())
        return known


@contextmanager
def _both(one: AbstractContextManager[None], other: AbstractContextManager[None]) -> Iterator[None]:
    with one, other:
        yield
