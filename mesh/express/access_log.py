"""The access log's lines of the Envoy in front. Law: with Python's, each call has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json
from mesh.express.lines import Said, logger
from protos import tracing

_MUCH: Final[Mapping[str, str]] = {
    tracing.DURATION: "%DURATION%",
    tracing.REQUEST_SIZE: "%BYTES_RECEIVED%",
    tracing.RESPONSE_SIZE: "%BYTES_SENT%",
}


@dataclass(frozen=True)
class AccessLog:
    """Where they go, and in what words."""

    path: Path
    said: Said

    def loggers(self) -> list[Json]:
        """envoy.config.accesslog.v3.AccessLog."""
        said = self.said
        return [
            *(logger(self.path, which, words, _MUCH) for which, words in said.carried()),
            logger(self.path, said.unseen(), said.others(), _MUCH),
            logger(self.path, said.unanswered(), said.others(), _MUCH),
        ]
