"""GPUs, with a stand-in for the driver's library: what is told, and what a driver that fails or hangs costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from workers import gpu
from workers.gpu import Gpu, Library, Watch, read


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - theirs
    pass


@dataclass
class Driver:
    """Two GPUs, the second parted (MIG), which tells no utilization."""

    fails: bool = False
    inits: int = 0
    shutdowns: int = 0
    reads: int = 0
    goes_on: Event = field(default_factory=Event)
    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported

    def __post_init__(self) -> None:
        self.goes_on.set()

    def nvmlInit(self) -> None:  # noqa: N802 - theirs
        self.inits += 1

    def nvmlShutdown(self) -> None:  # noqa: N802 - theirs
        self.shutdowns += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - theirs
        self.reads += 1
        assert self.goes_on.wait(10)
        if self.fails:
            raise NVMLError("GPU is lost")
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - theirs
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802 - theirs
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802 - theirs
        return "NVIDIA H100"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802 - theirs
        if handle:
            raise NVMLError_NotSupported("Not Supported")
        return SimpleNamespace(gpu=25, memory=3)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802 - theirs
        return SimpleNamespace(total=80 << 30, used=10 << 30, free=70 << 30)


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file by which a GPU shows."""
    file = tmp_path / "nvidiactl"
    file.touch()
    monkeypatch.setattr(gpu, "DEVICES", (file,))
    return file


TOLD = (
    Gpu("GPU-0", "NVIDIA H100", 0.25, float(10 << 30), float(80 << 30)),
    Gpu("GPU-1", "NVIDIA H100", None, float(10 << 30), float(80 << 30)),
)


def test_utilization_is_a_share_and_what_is_not_told_is_not_there() -> None:
    assert read(Driver()) == TOLD


def test_a_thread_asks_and_leaves_the_driver_as_it_was() -> None:
    driver = Driver()
    watch = Watch(lambda: driver, every=0.01)
    assert watch.now() == ()
    with watch.asking():
        until(lambda: driver.reads > 2)
        assert watch.now() == TOLD
    until(lambda: driver.shutdowns == driver.inits == 1)


def test_a_driver_that_fails_is_told_of_once_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    watch = Watch(lambda: driver, every=0.01, again=0.01)
    with watch.asking():
        until(watch.now)
        driver.fails = True
        until(lambda: driver.inits > 5)
        assert watch.now() == ()
        assert [record.getMessage() for record in caplog.records] == ["the driver tells nothing of GPUs: GPU is lost"]
        driver.fails = False
        until(watch.now)
        driver.fails = True
        until(lambda: len(caplog.records) == 2)


def test_what_a_driver_said_before_it_hung_is_no_longer_told() -> None:
    driver = Driver()
    watch = Watch(lambda: driver, every=0.05)
    with watch.asking():
        until(watch.now)
        driver.goes_on.clear()
        until(lambda: not watch.now())
    driver.goes_on.set()
    until(lambda: driver.shutdowns)


def test_without_the_library_a_gpu_is_told_of(device: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(missing, every=0.01)
    with watch.asking():
        until(lambda: caplog.records)
    (told,) = caplog.records
    assert "headrace[gpu]" in told.getMessage()
    assert watch.now() == ()


def missing() -> Library:
    raise ImportError("pynvml")


def test_without_a_gpu_nobody_asks(device: Path, caplog: pytest.LogCaptureFixture) -> None:
    device.unlink()
    threads = threading.active_count()
    with Watch(missing, every=0.01).asking():
        assert threading.active_count() == threads
    assert not caplog.records


def test_the_real_library_says_what_it_can(device: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a GPU it tells of it; without one, once that there is none."""
    library = pytest.importorskip("pynvml")
    watch = Watch(lambda: library, every=0.01)
    with watch.asking():
        until(lambda: watch.now() or caplog.records)
    for one in watch.now():
        assert one.id.startswith("GPU-") and one.name
        assert one.utilization is None or 0 <= one.utilization <= 1
        assert one.memory_limit is None or 0 < one.memory_usage <= one.memory_limit
