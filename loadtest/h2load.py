"""Calls by h2load. Law: a call counts as done only if it was told 200 and brought all the bytes of the answer.

h2load knows nothing of gRPC: a refusal is an answer without bytes to it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from loadtest.children import Broken, bound_to, find
from loadtest.payload import PATH, answer, prefixed

HEADERS = (("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "20S"))
_ANSWER = len(prefixed(answer()))
_PATIENCE = 120.0  # seconds
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_FINISHED = re.compile(r"^finished in ([\d.]+)(us|ms|s),", re.MULTILINE)
_DONE = re.compile(r"^status codes: (\d+) 2xx", re.MULTILINE)
_DATA = re.compile(r"\((\d+)\) data$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """How many connections, and how many calls at a time on each."""

    connections: int
    streams: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"

    @property
    def width(self) -> int:
        """Calls at a time."""
        return self.connections * self.streams


@dataclass(frozen=True, slots=True)
class Run:
    """Calls answered and not answered, in so many seconds; `p50` is the median of an answer's seconds."""

    done: int
    failed: int
    seconds: float
    p50: float


def run(
    cpus: set[int],
    address: str,
    metadata: Sequence[tuple[str, str]],
    body: Path,
    load: Load,
    calls: int,
    size: int = _ANSWER,
) -> Run:
    """So many calls with the framed message in `body`, from these processors; `size`: bytes of an answer, framed.

    Raises Broken.
    """
    with TemporaryDirectory() as folder, bound_to(cpus):
        log = Path(folder, "log")
        shape = ("-n", str(calls), "-c", str(load.connections), "-m", str(load.streams), "-d", str(body))
        told = (word for name, value in (*HEADERS, *metadata) for word in ("-H", f"{name}: {value}"))
        command = [find("h2load"), *shape, f"--log-file={log}", *told, f"http://{address}{PATH}"]
        try:
            ended = subprocess.run(  # noqa: S603 - no shell
                command, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise Broken(f"h2load had not done {calls} calls at {address} within {_PATIENCE:g} s") from None
        return parse(ended.stdout, log.read_text() if log.exists() else "", calls, size)


def parse(said: str, log: str, calls: int, size: int = _ANSWER) -> Run:
    """What h2load printed, and its log: a line a call, of its beginning, its status, and its microseconds."""
    finished, done, data = _FINISHED.search(said), _DONE.search(said), _DATA.search(said)
    if finished is None or done is None or data is None:
        raise Broken(f"h2load has measured nothing: {said.strip().rpartition(chr(10))[2] or 'it said nothing'}")
    answered = min(int(done[1]), int(data[1]) // size)
    times = [int(took) for _, status, took in map(str.split, log.splitlines()) if status == "200"]
    p50 = median(times) * 1e-6 if times else float("inf")
    return Run(answered, calls - answered, float(finished[1]) * _UNITS[finished[2]], p50)
