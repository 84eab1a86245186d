"""NVIDIA's GPUs, as their driver tells of them. Law: a thread of its own asks, and nobody waits for it.

A driver that fails is told of once, and its numbers end; so do those of one that hangs. All GPUs count that the driver
shows to this process, whoever uses them. Source: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, Protocol

log: Final = logging.getLogger("headrace.worker.gpu")
DEVICES: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # where there are GPUs; the latter under WSL
EVERY: Final = 5.0  # seconds between questions
_AGAIN: Final = 60.0  # seconds after which a driver that failed is asked again
_OLD: Final = 3  # rounds after which what was told last is no longer so


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its UUID, its name; the share of the time in which it worked, 0 to 1, and bytes.

    None is what this GPU does not tell.
    """

    id: str
    name: str
    utilization: float | None
    memory_usage: float | None
    memory_limit: float | None


class Library(Protocol):
    """As much of `pynvml` (nvidia-ml-py) as is asked for. All raise NVMLError."""

    NVMLError: type[Exception]
    NVMLError_NotSupported: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: D102, N802 - theirs
    def nvmlShutdown(self) -> None: ...  # noqa: D102, N802 - theirs
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: D102, N802 - theirs
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: ANN401, D102, N802 - theirs
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...  # noqa: ANN401, D102, N802 - theirs
    def nvmlDeviceGetName(self, handle: Any) -> str: ...  # noqa: ANN401, D102, N802 - theirs
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: ANN401, D102, N802 - theirs
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: ANN401, D102, N802 - theirs


def installed() -> Library:
    """The real one. Raises ImportError."""
    library: Library = importlib.import_module("pynvml")
    return library


def read(library: Library) -> tuple[Gpu, ...]:
    """All GPUs now. Raises NVMLError."""
    handles = map(library.nvmlDeviceGetHandleByIndex, range(library.nvmlDeviceGetCount()))
    return tuple(_gpu(library, handle) for handle in handles)


def _gpu(library: Library, handle: object) -> Gpu:
    utilization = memory_usage = memory_limit = None
    with contextlib.suppress(library.NVMLError_NotSupported):  # a GPU that is parted (MIG)
        utilization = library.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    with contextlib.suppress(library.NVMLError_NotSupported):  # memory that is the processor's, too
        memory = library.nvmlDeviceGetMemoryInfo(handle)
        memory_usage, memory_limit = float(memory.used), float(memory.total)
    names = library.nvmlDeviceGetUUID(handle), library.nvmlDeviceGetName(handle)
    return Gpu(*names, utilization, memory_usage, memory_limit)


class Watch:
    """What the driver told last. `every` and `again` are seconds."""

    def __init__(self, library: Callable[[], Library] = installed, every: float = EVERY, again: float = _AGAIN) -> None:
        self._library = library
        self._every = every
        self._again = again
        self._told: tuple[float, tuple[Gpu, ...]] = (0.0, ())
        self._failed = False

    def now(self) -> Sequence[Gpu]:
        """The GPUs, none where the driver has not told of them for a while."""
        at, told = self._told
        return told if time.monotonic() - at < _OLD * self._every else ()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while inside, where there is a GPU."""
        over = Event()
        if any(device.exists() for device in DEVICES):
            Thread(target=self._keep_asking, args=(over,), name="gpu", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _keep_asking(self, over: Event) -> None:
        try:
            library = self._library()
        except ImportError:
            log.warning("there is a GPU, of which nothing is told: run pip install 'headrace[gpu]'")
            return
        while not over.is_set():
            try:
                self._ask(library, over)
            except library.NVMLError as error:
                self._told = (0.0, ())
                if not self._failed:
                    log.warning("the driver tells nothing of GPUs: %s", error)
                self._failed = True
            over.wait(self._again)

    def _ask(self, library: Library, over: Event) -> None:
        """Until it is over. Raises NVMLError."""
        library.nvmlInit()
        try:
            while True:
                self._told = (time.monotonic(), read(library))
                self._failed = False
                if over.wait(self._every):
                    return
        finally:
            with contextlib.suppress(library.NVMLError):
                library.nvmlShutdown()
