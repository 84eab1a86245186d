"""The proxies, ours and others', put up on the ground. Law: each does what it is for, on one processor, one worker."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from loadtest import envoys, setting
from loadtest.children import Child, child, find, free_address, program
from loadtest.ground import Contender, Ground
from loadtest.payload import answer
from loadtest.processes import bind, named, tree
from loadtest.setting import Lane

_RAY_SERVES = re.compile(r"^serving (\S+)$")
_RAY_PROXY = "ProxyActor"  # in the name that Ray gives its process
_WINDOW = str(16 * 1024**2)  # bytes: as wide as Envoy's


def bare_hop(ground: Ground) -> Contender:
    """The least that an Envoy can do."""
    return _alone(
        "bare hop", ground.stack.enter_context(envoys.envoy(ground.proxy_cpus, ground.upstream, (), ground.log))
    )


def extraction(ground: Ground) -> Contender:
    """An Envoy that reads the model's name out of each message, and has a rule on it."""
    filters = envoys.extraction(ground.subfolder())
    started = envoys.envoy(ground.proxy_cpus, ground.upstream, filters, ground.log)
    return _alone("field extraction", ground.stack.enter_context(started))


def nghttpx(ground: Ground) -> Contender:
    """nghttp2's own proxy, with windows as wide as Envoy's."""
    address = free_address()
    listening, upstream = (one.replace(":", ",") for one in (address, ground.upstream))
    windows = (
        f"--{side}-http2-{what}window-size={_WINDOW}"
        for side in ("frontend", "backend")
        for what in ("", "connection-")
    )
    command = (
        *(find("nghttpx"), "--conf=/dev/null", "--single-process", "--workers=1", "--log-level=ERROR", *windows),
        *(f"--frontend={listening};no-tls", f"--backend={upstream};;no-tls;proto=h2"),
    )
    return _alone("nghttpx", ground.stack.enter_context(program(ground.proxy_cpus, address, *command, log=ground.log)))


def python_proxy(ground: Ground, name: str, module: str) -> Contender:
    """A pass-through of this package."""
    started = child(ground.proxy_cpus, "-m", module, ground.upstream, log=ground.log)
    return _alone(name, ground.stack.enter_context(started))


def lane(ground: Ground, name: str, lane: Lane) -> tuple[Contender, Sequence[str]]:
    """Our gateway, and the tokens of its callers; the contender has the first one's."""
    config, tokens = setting.write_lane(ground.subfolder(), ground.upstream, lane)
    command = ("-m", "headrace", "gateway", "--config", str(config))
    started = ground.stack.enter_context(child(ground.proxy_cpus, *command, log=ground.log))
    processes = tree(started.process.pid)
    front = named("envoy", processes) if lane.express else [started.process.pid]
    behind = [pid for pid in processes if pid not in front]
    return Contender(name, started.address, front, behind, bearer(tokens[0])), tokens


def bearer(token: str) -> Sequence[tuple[str, str]]:
    """A caller's metadata."""
    return (("authorization", f"Bearer {token}"),)


def ray_serve(ground: Ground, python: Path) -> Contender:
    """Ray Serve's gRPC proxy, which is bound to the proxies' processor; its worker and all else that it has are not."""
    folder = ground.subfolder()
    script = shutil.copy(Path(__file__).with_name("ray_serve.py"), folder)
    (folder / "answer").write_bytes(answer())
    environment = {"HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}  # it writes at home, and would tell its makers
    started = ground.stack.enter_context(
        child(
            ground.other_cpus,
            *(str(script), str(folder)),
            log=ground.log,
            ready=_RAY_SERVES,
            python=str(python),
            environment=environment,
        )
    )
    proxies = named(_RAY_PROXY, tree(started.process.pid))
    for pid in proxies:
        bind(pid, ground.proxy_cpus)
    return Contender("Ray Serve", started.address, proxies)


def _alone(name: str, started: Child) -> Contender:
    return Contender(name, started.address, [started.process.pid])
