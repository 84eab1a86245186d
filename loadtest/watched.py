"""What it costs to see everything. Law: the same gateway, worker and calls, with all telemetry on, and with none.

The worker is ours, with a model that computes: so it is what users have, and not the least that could be. All on is: a
tenth of the calls traced, access log, audit of every call, metrics that are scraped and sent, and logs, to a collector
that takes it all.
"""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Final

import grpc

from loadtest import h2load, setting
from loadtest.children import Broken, child, free_address, room
from loadtest.collector import collecting
from loadtest.contenders import bearer
from loadtest.contest import Case, Drive, Effort
from loadtest.findings import Findings, Track, contest
from loadtest.ground import Contender, Ground
from loadtest.h2load import Load, Run
from loadtest.payload import MODEL, PATH, SHAPES, prefixed, request
from loadtest.processes import named, tree
from loadtest.report import Target, bars

OFF, ON = "off", "on"
AIM: Final = 0.9
_LANES: Final = {"the lane": True, "Python": False}
_LOAD: Final = Load(16, 1)
_SCRAPED: Final = 5.0  # seconds between scrapes
_MODEL: Final = """\
import numpy as np

class Model:
    def __init__(self, folder, config):
        self.weights = np.random.default_rng(1).standard_normal((64, 10)).astype(np.float32)

    def infer(self, inputs):
        return {"scores": inputs["image"].reshape(-1, 64) @ self.weights}
"""
_CONFIG: Final = """\
backend: "python"
max_batch_size: 16
dynamic_batching {}
input { name: "image" data_type: TYPE_FP32 dims: 64 }
output { name: "scores" data_type: TYPE_FP32 dims: 10 }
"""


def measured(effort: Effort, track: Track) -> Findings:
    """Both lanes. Raises Broken."""
    reports = []
    for lane, express in _LANES.items():
        with room() as (stack, folder, log, proxy_cpus, other_cpus):
            # Each gateway has a worker of its own.
            here = Ground(stack, folder, log, proxy_cpus, other_cpus, upstream="")
            _, collector = here.stack.enter_context(collecting())
            off = _gateway(here, OFF, None, express=express)
            on = _gateway(here, ON, collector, express=express)
            target = Target(ON, OFF, lane, AIM)
            cases = dict([_case(here, lane, off)])
            reports.append(contest(f"telemetry, {lane}", [off, on], cases, effort, track, [target]))
    return Findings(reports, [bar for report in reports for bar in bars(report)])


def _gateway(here: Ground, name: str, collector: str | None, *, express: bool) -> Contender:
    """A gateway before a worker of its own."""
    folder = here.subfolder()
    told, metrics = (["--otlp", f"http://{collector}", "--metrics", free_address()], True) if collector else ([], False)
    serves = ("-m", "headrace", "worker", "--repository", str(_repository(folder)), "--listen", "127.0.0.1:0", *told)
    worker = here.stack.enter_context(child(here.other_cpus, *serves, log=here.log))
    admin = free_address()
    config, token = setting.write_watched(folder, worker.address, admin, collector, express=express)
    command = ("-m", "headrace", "gateway", "--config", str(config))
    started = here.stack.enter_context(child(here.proxy_cpus, *command, log=here.log))
    if metrics:
        here.stack.enter_context(_scraped([admin, told[-1]]))
    processes = tree(started.process.pid)
    front = named("envoy", processes) if express else [started.process.pid]
    behind = [pid for pid in processes if pid not in front]
    return Contender(name, started.address, front, [*behind, worker.process.pid], bearer(token))


def _repository(folder: Path) -> Path:
    model = folder / "models" / MODEL / "1"
    model.mkdir(parents=True)
    (model / "model.py").write_text(_MODEL)
    (model.parent / "config.pbtxt").write_text(_CONFIG)
    return model.parent.parent


@contextlib.contextmanager
def _scraped(addresses: Sequence[str]) -> Iterator[None]:
    """While inside, somebody reads the metrics there, as Prometheus does."""
    over = Event()

    def scrape() -> None:
        while not over.wait(_SCRAPED):
            for address in addresses:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/metrics") as told:
                    told.read()

    thread = Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _case(here: Ground, lane: str, gateway: Contender) -> tuple[Case, Drive]:
    message = request(SHAPES["small"])
    body, size = here.file(lane, prefixed(message)), _answered(gateway, message)

    def drive(contender: Contender, calls: int) -> Run:
        return h2load.run(here.other_cpus, contender.address, contender.metadata, body, _LOAD, calls, size)

    return Case(lane, len(message), _LOAD.width), drive


def _answered(gateway: Contender, message: bytes) -> int:
    """Bytes of an answer, framed. Raises Broken."""
    try:
        with grpc.insecure_channel(gateway.address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
            return len(prefixed(call(message, metadata=tuple(gateway.metadata), timeout=20)))
    except grpc.RpcError as error:
        raise Broken(f"the gateway does not answer: {error}") from None
