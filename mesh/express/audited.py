"""The audit's lines of the Envoy in front. Law: what it carried was allowed, and what else it answers it refuses.

A share of carried calls has lines, drawn anew for each. What Python was meant to answer and did not is undecided, as
is a call that was left before it was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json
from mesh.express.commands import first_of
from mesh.express.lines import Said, if_left, logger
from protos import tracing

_MILLION: Final = 1_000_000


@dataclass(frozen=True)
class Audit:
    """Where they go, in what words, and of which share of what was carried; how each decision is called."""

    path: Path
    said: Said
    sample: float
    allowed: str
    refused: str
    undecided: str

    def loggers(self) -> list[Json]:
        """envoy.config.accesslog.v3.AccessLog."""
        said, path = self.said, self.path
        allowed = {tracing.DECISION: self.allowed}
        unseen = {tracing.DECISION: first_of(if_left(self.undecided), ("CEL", repr(self.refused)))}
        made = [
            logger(path, said.unseen(), said.others(), unseen),
            logger(path, said.unanswered(), said.others(), {tracing.DECISION: self.undecided}),
        ]
        if self.sample:
            made += [logger(path, [*self._share(), *which], words, allowed) for which, words in said.carried()]
        return made

    def _share(self) -> list[Json]:
        if self.sample == 1:
            return []
        share = {"numerator": round(self.sample * _MILLION), "denominator": "MILLION"}
        drawn = {"runtime_key": "headrace.audit", "percent_sampled": share, "use_independent_randomness": True}
        return [{"runtime_filter": drawn}]
