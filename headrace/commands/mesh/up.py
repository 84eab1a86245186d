"""`headrace mesh up`."""

from __future__ import annotations

import asyncio
import os
import socket
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace.commands import parse
from headrace.console import Console
from headrace.failure import CommandError

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from mesh.local.plan import Gateway
    from mesh.local.state import State
    from mesh.local.up import Options

PROXY: Final = "127.0.0.1:15001"
_LIFETIMES: Final = (10.0, 365 * 24 * 3600.0)  # seconds; the roots are good for no longer

_Folder = Annotated[
    Path, typer.Argument(exists=True, file_okay=False, metavar="DIR", help="Istio resources, in *.yaml files.")
]
_Proxy = Annotated[
    str | None,
    typer.Option(
        parser=parse.address,
        metavar="HOST:PORT",
        help=f"Where the gateway calls by its sidecar; by default {PROXY}.",
    ),
]
_Xds = Annotated[
    str | None,
    typer.Option(
        parser=parse.address,
        metavar="HOST:PORT",
        help="Or the gateway has no sidecar: here its xDS client is told what to do.",
    ),
]
_Gateway = Annotated[
    str | None,
    typer.Option(metavar="NAMESPACE/NAME", help="The gateway's WorkloadEntry; else the one that serves nothing."),
]
_Mesh = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Istio's MeshConfig, read at the start."),
]
_Lifetime = Annotated[
    str, typer.Option(metavar="DURATION", help="How long a certificate is good; renewed at half of it.")
]
_Envoy = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="The Envoy to run.")]


def up(
    folder: _Folder,
    proxy: _Proxy = None,
    xds: _Xds = None,
    gateway: _Gateway = None,
    mesh: _Mesh = None,
    lifetime: _Lifetime = "1h",
    envoy: _Envoy = None,
) -> int:
    """Run Istio resources on this machine: an Envoy beside each process, with mTLS between them.

    A process is a WorkloadEntry with a serviceAccount; its address and ports say where it listens.

    Changes in DIR are in force within a second. What cannot be used is told, and changes nothing. Ctrl-C ends it all.
    """
    from mesh.istio.document import RefusedError  # noqa: PLC0415 - pydantic
    from mesh.istio.load import load_mesh_config  # noqa: PLC0415
    from mesh.istio.mesh_config import MeshConfig  # noqa: PLC0415
    from mesh.local.binary import find  # noqa: PLC0415 - cryptography
    from mesh.local.failure import MeshError  # noqa: PLC0415
    from mesh.local.place import alone  # noqa: PLC0415
    from mesh.local.up import Options  # noqa: PLC0415

    try:
        alone(folder, os.environ)  # before the ports, which the other has
        options = Options(
            folder=folder,
            binary=find(envoy),
            mesh=load_mesh_config(mesh) if mesh else MeshConfig(),
            gateway=_gateway(proxy, xds, _key(gateway)),
            lifetime=_lifetime(lifetime),
        )
        asyncio.run(_until_stopped(options))
    except RefusedError as refused:
        raise CommandError("the resources cannot be used\n" + "\n".join(refused.mistakes)) from None
    except MeshError as error:
        raise CommandError(str(error)) from None
    return 0


async def _until_stopped(options: Options) -> None:
    from headrace.interrupt import interruptible  # noqa: PLC0415

    console = Console()
    await interruptible(_serve(options, console), lambda: console.print("Stopping ...", style="dim"))


async def _serve(options: Options, console: Console) -> None:
    from mesh.local.listening import nobody_at  # noqa: PLC0415
    from mesh.local.place import place_of, taken  # noqa: PLC0415
    from mesh.local.plan import Plan  # noqa: PLC0415
    from mesh.local.state import publish, state_of  # noqa: PLC0415
    from mesh.local.up import Watcher, running  # noqa: PLC0415

    folder = options.folder.resolve()
    place = place_of(folder, os.environ)
    unheard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    state: State | None = None

    def in_force(plan: Plan) -> None:
        nonlocal state
        before, state = state, state_of(plan, folder, place, os.getpid(), options.gateway)
        publish(state, place)
        if state != before:
            say(_picture(state))
            if state.bootstrap:
                say(f"{state.gateway} has no sidecar; run it with GRPC_XDS_BOOTSTRAP={state.bootstrap}")

    def say(what: RenderableType) -> None:
        try:
            console.print(what, markup=False, soft_wrap=isinstance(what, str))
        except OSError as error:  # whoever read it has left
            if not unheard.done():
                unheard.set_exception(error)

    def tell(what: str) -> None:
        say(f"{datetime.now():%H:%M:%S} {what}")

    with taken(place, folder):
        async with running(options, place, Watcher(lambda _: None, in_force, tell)) as mesh:
            for silent in await nobody_at(state.workloads if state else ()):
                say(f"nobody listens yet at {silent}")
            say(_ready(options.gateway, state))
            await asyncio.gather(mesh.keep(), unheard)


def _picture(state: State) -> Group:
    """Each workload: where its process listens or calls, and where its sidecar stands for it; and who they are."""
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for name in ("workload", "process", "sidecar"):
        table.add_column(name, overflow="fold")
    for one in state.workloads:
        whose, ports = f"{one.namespace}/{one.name}", ",".join(map(str, one.ports))
        calls = state.proxy if state.proxy and whose == state.gateway else one.outbound
        process = f"{one.process}:{ports}" if ports else f"calls {calls}"
        table.add_row(whose, process, f"{one.address}:{ports}" if ports else one.address)
    accounts = ", ".join(sorted({f"{one.namespace}/{one.account}" for one in state.workloads}))
    identities = f"identities are spiffe://{state.trust_domain}/ns/NAMESPACE/sa/ACCOUNT"
    return Group(table, Text(identities, "dim"), Text(f"of {accounts}", "dim"))


def _ready(gateway: Gateway, state: State | None) -> str:
    at = "{}:{}".format(*gateway.xds) if gateway.xds else state.proxy if state else None
    return f"headrace mesh ready on {at}" if at else "headrace mesh ready"


def _gateway(proxy: str | None, xds: str | None, key: tuple[str, str] | None) -> Gateway:
    from mesh.local.plan import Gateway  # noqa: PLC0415

    if xds is None:
        return Gateway(_free(proxy or PROXY, "--proxy"), key)
    if proxy is not None:
        raise typer.BadParameter("a gateway that has no sidecar has no --proxy", param_hint="--xds")
    return Gateway(None, key, _free(xds, "--xds"))


def _lifetime(value: str) -> timedelta:
    seconds, (least, most) = parse.seconds(value, "--lifetime"), _LIFETIMES
    if not least <= seconds <= most:
        raise typer.BadParameter(f"{value} is not between {least:g}s and {most / 3600:g}h", param_hint="--lifetime")
    return timedelta(seconds=seconds)


def _free(address: str, option: str) -> tuple[str, int]:
    """The address on the loopback, with a port that is free where 0 was asked for."""
    host, _, port = address.rpartition(":")
    if not _is_loopback(host):
        what = f"{address} is no IPv4 address of the loopback: what listens there is for the gateway alone"
        raise typer.BadParameter(what, param_hint=option)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last mesh may still linger
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise CommandError(f"cannot listen on {address}: {error.strerror}; choose another {option}") from None
        return host, int(probe.getsockname()[1])


def _is_loopback(host: str) -> bool:
    try:
        return IPv4Address(host).is_loopback
    except ValueError:
        return False


def _key(gateway: str | None) -> tuple[str, str] | None:
    if gateway is None:
        return None
    namespace, slash, name = gateway.partition("/")
    if not slash:
        raise typer.BadParameter(f"{gateway} is not NAMESPACE/NAME", param_hint="--gateway")
    return namespace, name
