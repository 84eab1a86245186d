"""The world of the tests behind an Envoy that Istio's own control plane configures as an ingress gateway.

The oracle serves what `headrace mesh render --express` writes, and the services that a cluster would know. There are no
sidecars here: neither the gateway nor workers have a certificate, so the mesh's TLS is turned off in what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

from gateway.server import Addresses, serving
from gateway.settings import Settings, load
from headrace.rendering import source_of
from mesh.catalog import GatewayWorkload
from mesh.envoy.admin import Admin, UnreachableError
from mesh.envoy.proto import HTTP_PROTOCOL_OPTIONS, Json, typed
from mesh.express.clusters import at
from mesh.local import process
from mesh.render.files import render
from tests.envoy import ENVOY
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, Worker, World, configuration, running, unused_address

MESH = "rootNamespace: istio-system\ntrustDomain: cluster.local\nenableAutoMtls: false\nenableTracing: false\n"
LABELS = {"istio": "ingressgateway"}
NODE = {
    "id": "router~127.0.0.1~ingress.istio-system~istio-system.svc.cluster.local",
    "cluster": "ingress",
    "metadata": {
        "NAMESPACE": "istio-system",
        "LABELS": LABELS,
        "SERVICE_ACCOUNT": "ingress",
        "ISTIO_VERSION": "1.31.0",
    },
}
PROXY = {"name": "ingress", "type": "router", "namespace": "istio-system", "serviceAccount": "ingress"}
# Filters that only Istio's own build of Envoy has.
WITHOUT = {
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_DISABLE_MX_ALPN": "true",
    "PILOT_ENABLE_ALPN_FILTER": "false",
}
Change = Callable[[dict[str, Any]], None]


class Told(Worker):
    """Notes what callers and gateways say; a mesh tells workers besides how often a call has been tried."""

    def _note(self, path: str, message: bytes, context: grpc.aio.ServicerContext) -> None:
        super()._note(path, message, context)
        self.metadata[-1] = [pair for pair in self.metadata[-1] if pair[0] != "x-envoy-attempt-count"]


# ---- what is served ----


def files(settings: Settings) -> Mapping[str, str]:
    """What is rendered for a cluster."""
    return render(replace(source_of(settings, express=True), endpoints={}), {})


def served(settings: Settings, gateways: Iterable[Addresses]) -> str:
    """The resources of a cluster in which these gateways and the settings' endpoints are."""
    texts = "\n---\n".join(files(settings).values()).replace("mode: ISTIO_MUTUAL", "mode: DISABLE")
    assert texts.count("  servers:\n  - port:") == 1
    texts = texts.replace("  servers:\n  - port:", "  servers:\n  - bind: 127.0.0.1\n    port:")
    gateway = GatewayWorkload()
    ports = [{"grpc": _port(one.grpc), "asked": _port(one.asked or "")} for one in gateways]
    services = [service(gateway.host, {"grpc": gateway.port, "asked": gateway.asked}, [(one, {}) for one in ports])]
    found: dict[str, dict[str, dict[str, str]]] = {}
    for model in settings.models:
        copies = found.setdefault(model.host, {})
        for version, addresses in settings.upstream.endpoints[model.name].items():
            for address in addresses:
                copies.setdefault(address, {}).update(model.versions[version])
    for host, copies in found.items():
        there = [({"grpc": _port(address)}, labels) for address, labels in copies.items()]
        services.append(service(host.rpartition(":")[0], {"grpc": _port(host)}, there))
    return "\n---\n".join([texts, *map(json.dumps, services)])


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def service(host: str, ports: Mapping[str, int], copies: Iterable[tuple[Mapping[str, int], Mapping[str, str]]]) -> Json:
    """A ServiceEntry, as a cluster's service is to Istio; of each copy its ports on the loopback, and its labels."""
    name, namespace, *_ = host.split(".")
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "hosts": [host],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": number, "name": name, "protocol": "GRPC"} for name, number in ports.items()],
            "endpoints": [{"address": "127.0.0.1", "ports": found, "labels": labels} for found, labels in copies],
        },
    }


# ---- who serves it, and who is told ----


def case_of(folder: Path, resources: str) -> Path:
    """A folder as the oracle reads it."""
    case = folder / "case"
    case.mkdir(exist_ok=True)
    (case / "config.yaml").write_text(resources)
    (case / "mesh.yaml").write_text(MESH)
    (case / "proxies.yaml").write_text(json.dumps([{**PROXY, "ip": "127.0.0.1", "labels": LABELS}]))
    return case


def generated(folder: Path, resources: str) -> dict[str, Any]:
    """What Istio's control plane makes of the resources for the ingress gateway."""
    case = case_of(folder, resources)
    subprocess.run(["istio-oracle", case], check=True, capture_output=True, timeout=60, env={**os.environ, **WITHOUT})
    found: dict[str, Any] = json.loads((case / "ingress.json").read_text())
    return found


@contextlib.asynccontextmanager
async def oracle(folder: Path, resources: str) -> AsyncIterator[str]:
    """Istio's control plane while inside: its address."""
    with (folder / "oracle.log").open("wb") as log:
        found = await asyncio.create_subprocess_exec(
            *("istio-oracle", "-serve", "127.0.0.1:0", str(case_of(folder, resources))),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, **WITHOUT},
        )
        try:
            assert found.stdout is not None
            async with asyncio.timeout(60):
                while not (line := (await found.stdout.readline()).decode()).startswith("serving "):
                    assert line, "it has ended"
            yield line.split()[1]
        finally:
            found.kill()
            await found.wait()


def bootstrap(folder: Path, control_plane: str) -> Json:
    """An Envoy as Istio's agent would start it."""
    options = typed(HTTP_PROTOCOL_OPTIONS, explicit_http_config={"http2_protocol_options": {}})
    ads = {
        "name": "ads",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {HTTP_PROTOCOL_OPTIONS: options},
        "load_assignment": {
            "cluster_name": "ads",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(control_plane)}}]}],
        },
    }
    stream = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}],
    }
    from_stream = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": NODE,
        "admin": {"address": {"pipe": {"path": str(folder / "admin.sock"), "mode": 0o600}}},
        "dynamic_resources": {"ads_config": stream, "lds_config": from_stream, "cds_config": from_stream},
        "static_resources": {"clusters": [ads]},
    }


@contextlib.asynccontextmanager
async def ingress(folder: Path, control_plane: str, address: str) -> AsyncIterator[None]:
    """The Envoy while inside, once it listens at the address."""
    log = folder / "envoy.log"
    envoy = await process.start(Path(ENVOY or ""), bootstrap(folder, control_plane), log)
    try:
        async with asyncio.timeout(60):
            while address not in await page(folder, "listeners") or "LIVE" not in await page(folder, "ready"):
                assert envoy.process.returncode is None, process.last_of(log)
                await asyncio.sleep(0.02)
        yield
    finally:
        await envoy.stop()


@contextlib.asynccontextmanager
async def admin(folder: Path) -> AsyncIterator[Admin]:
    """The Envoy's admin pages."""
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(folder / "admin.sock"))) as session:
        yield Admin(session, "ingress")


async def page(folder: Path, name: str) -> str:
    """One of them; empty while it is not there."""
    async with admin(folder) as pages:
        with contextlib.suppress(UnreachableError):
            return await pages.get(name)
    return ""


async def carried(world: World) -> int:
    """How many calls have been answered past Python."""
    port, gateway = world.address.rpartition(":")[2], GatewayWorkload()
    every = f"http.outbound_127.0.0.1_{port};.downstream_rq_total"
    pythons = f"cluster.outbound|{gateway.port}||{gateway.host};.upstream_rq_total"
    async with admin(world.folder) as pages:
        found = await pages.statistics([every, pythons])
    return int(found[every]) - int(found[pythons])


# ---- the world ----


def cluster(config: dict[str, Any], port: int | None) -> None:
    """Make a configuration of tests.gateway.world one for a cluster, by way of an ingress gateway at the port."""
    config["listen"] |= {"express": "external", "asked": "127.0.0.1:0"}
    config["mesh"] = {"ingress": {"port": port}}
    for model in config["models"]:
        model["host"] = model["host"].replace(".svc:", ".svc.cluster.local:")


def settings_of(folder: Path, **ingress: Any) -> Settings:
    """Settings of a cluster, where nothing runs."""
    issuer = Issuer()
    (folder / "jwks.json").write_bytes(issuer.jwks())
    config = configuration(issuer, folder / "jwks.json", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    cluster(config, None)
    config["mesh"]["ingress"] = ingress
    (folder / "headrace.yaml").write_text(json.dumps(config))
    return load(folder / "headrace.yaml", {})


@contextlib.asynccontextmanager
async def world(
    folder: Path, change: Change = lambda _config: None, *, express: bool = True, gateways: int = 1
) -> AsyncIterator[World]:
    """As tests.gateway.world has it, with an ingress gateway in front of so many gateways."""
    assert express
    issuer = Issuer()
    (folder / "jwks.json").write_bytes(issuer.jwks())
    address = unused_address()
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(running(Told()))
        two = await stack.enter_async_context(running(Told()))
        config = configuration(issuer, folder / "jwks.json", one.address, two.address, unused_address())
        cluster(config, _port(address))
        change(config)
        (folder / "headrace.yaml").write_text(json.dumps(config))
        settings = load(folder / "headrace.yaml", {})
        found = [await stack.enter_async_context(serving(settings, environ={})) for _ in range(gateways)]
        control_plane = await stack.enter_async_context(oracle(folder, served(settings, found)))
        await stack.enter_async_context(ingress(folder, control_plane, address))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=CLIENT))
        yield World(address, found[0].admin or "", issuer, {"1": one, "2": two}, channel, folder, express=True)
