"""How many calls a model can have at a time, found out by how long they take. Law: more while they do not queue.

The limit goes up by a tenth, or by one, while it is in use and calls queue for less than they may, and down by a tenth
while they queue for longer. How long a call queues is how much longer it takes than one that finds nobody before it:
with no more than `floor` calls at a time none queues, so these tell. Where none has been seen for long, calls are held
to the floor until some have.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from mesh.catalog import Admission

_WINDOW: Final = 0.1  # seconds of calls by which the limit is changed
_ENOUGH: Final = 5  # calls in a window, or of those that do not queue
_LOOK: Final = 30.0  # seconds after which it is looked again how long calls take that do not queue
_SMOOTH: Final = 0.1  # weight of the newest
_UP, _DOWN = 0.1, 0.9
_GREED: Final = 4  # calls that one caller may have for each that would still fit
_SHARES: Final = (1.0, 0.9, 0.8, 0.7, 0.6)  # of the limit, for each level of priority


def fits(limit: int, running: int, of_caller: int, level: int) -> bool:
    """Whether another call of a caller that has `of_caller` running goes, where `running` do in all.

    Lower levels (1 is the highest) have less of the limit, so they are shed first. Callers that have many are shed
    before those that have few: what is left is for these (dynamic thresholds, Choudhury and Hahne 1998).
    """
    room = max(1, int(limit * _SHARES[min(level, len(_SHARES)) - 1])) - running
    return room >= 1 and of_caller <= _GREED * (room - 1)


def adapted(limit: float, bounds: Admission, queued: float, peak: int, *, full: bool) -> float:
    """The next limit, after a while in which calls queued for `queued` seconds and at most `peak` ran at a time.

    `full`: a worker has turned calls away.
    """
    if full or queued > bounds.queue:
        return max(float(bounds.floor), limit * _DOWN)
    if peak * 2 >= limit:
        return min(float(bounds.ceiling), limit + max(1.0, limit * _UP))
    return limit


class Adaptive:
    """The limit of one model in this process; times are monotonic, in seconds."""

    def __init__(self, bounds: Admission, now: float) -> None:
        self.bounds = bounds
        self.running = 0
        self.typical = 0.0  # seconds that calls take, queueing included
        self._of: Counter[str] = Counter()
        self._limit = float(bounds.floor)
        self._alone, self._seen, self._seen_at = 0.0, 0, now  # seconds; of how many, and when
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since, self._calls, self._took, self._peak, self._full = now, 0, 0.0, self.running, False

    @property
    def limit(self) -> int:
        """How many calls may run now."""
        return self.bounds.floor if self._seen < _ENOUGH else int(self._limit)

    def admits(self, caller: str, level: int) -> bool:
        """Whether another call of the caller goes now."""
        return fits(self.limit, self.running, self._of[caller], level)

    def began(self, caller: str) -> bool:
        """A call has begun; True: it finds nobody before it."""
        self.running += 1
        self._of[caller] += 1
        self._peak = max(self._peak, self.running)
        return self.running <= self.bounds.floor

    def ended(self, caller: str) -> None:
        """A call has ended, one way or another."""
        self.running -= 1
        self._of[caller] -= 1
        if not self._of[caller]:
            del self._of[caller]

    def left(self, took: float, now: float) -> None:
        """A caller did not wait any longer than so many seconds, which tells something only if it was long."""
        if took > self._alone + self.bounds.queue:
            self.told(took, now, alone=False)

    def turned_away(self, now: float) -> None:
        """A worker, or a breaker before it, had no room for a call."""
        self._full = True
        self._adapt(now)

    def told(self, took: float, now: float, *, alone: bool) -> None:
        """A call that began with nobody before it (`alone`), or not, took so many seconds."""
        self.typical += (took - self.typical) * (_SMOOTH if self.typical else 1.0)
        if alone:
            self._alone += (took - self._alone) * max(_SMOOTH, 1 / (self._seen + 1))
            self._seen, self._seen_at = self._seen + 1, now
        self._calls, self._took = self._calls + 1, self._took + took
        self._adapt(now)

    def _adapt(self, now: float) -> None:
        if now - self._since < _WINDOW or not (self._full or self._calls >= _ENOUGH):
            return
        queued = self._took / self._calls - self._alone if self._calls else 0.0
        if self._seen >= _ENOUGH:
            self._limit = adapted(self._limit, self.bounds, queued, self._peak, full=self._full)
            if now - self._seen_at > _LOOK:
                self._seen = 0
        self._begin(now)
