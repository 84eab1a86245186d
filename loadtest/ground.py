"""Where contenders stand. Law: a proxy has a processor to itself, caller and worker have the rest; all ends together.

All contenders are before one worker, nghttpd, which gives every call the same answer from a file. They share their
processor and idle while others are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from loadtest.children import find, free_address, program, room
from loadtest.payload import PATH, answer, prefixed

_STREAMS = 1000  # calls at a time on one connection, as our own proxies take
_WINDOW_BITS = 24  # as wide as Envoy's: the worker must not be what limits


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy that is called at `address` with this metadata.

    `front` are the processes that a call goes through in any case, `behind` all others that serve with them; with
    `busiest` of these only the one that does most counts: where each has a processor, it is full first.
    """

    name: str
    address: str
    front: Sequence[int]
    behind: Sequence[int] = ()
    metadata: Sequence[tuple[str, str]] = ()
    busiest: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """`stack` ends what is put up; `upstream` is the worker's `HOST:PORT`; `folder` is for files, `log` for errors."""

    stack: ExitStack
    folder: Path
    log: IO[str]
    proxy_cpus: set[int]
    other_cpus: set[int]
    upstream: str

    def file(self, name: str, content: bytes) -> Path:
        """A file, until the end."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def subfolder(self) -> Path:
        """A new folder, until the end."""
        return Path(self.stack.enter_context(TemporaryDirectory(dir=self.folder)))


@contextmanager
def ground() -> Iterator[Ground]:
    """The worker, and room for contenders. Raises Broken."""
    with room() as (stack, folder, log, proxy_cpus, other_cpus):
        upstream = stack.enter_context(_nghttpd(folder / "answers", other_cpus, log))
        yield Ground(stack, folder, log, proxy_cpus, other_cpus, upstream)


@contextmanager
def _nghttpd(root: Path, cpus: set[int], log: IO[str]) -> Iterator[str]:
    answers = root / PATH.removeprefix("/")
    answers.parent.mkdir(parents=True)
    answers.write_bytes(prefixed(answer()))
    address = free_address()
    host, _, port = address.rpartition(":")
    widths = ("-m", str(_STREAMS), "-w", str(_WINDOW_BITS), "-W", str(_WINDOW_BITS))
    files = ("-d", str(root), "--trailer", "grpc-status: 0")
    command = (find("nghttpd"), "--no-tls", "-a", host, *widths, *files, port)
    with program(cpus, address, *command, log=log) as started:
        yield started.address
