"""The workers and their models. Law: who is asked is asked where the gateway would call.

In a mesh it is the sidecar who knows the copies: there each version is asked for as the gateway would ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from gateway.proxyless import BOOTSTRAP_FILE, mistake_in_bootstrap
from gateway.settings import Settings
from gateway.upstream import CHANNEL
from headrace.doctor.finding import Finding
from protos import grpc_service_pb2 as pb
from protos import grpc_service_pb2_grpc as rpc
from protos.contract import MODEL_NAME, MODEL_VERSION

_AREA: Final = "workers"
_ABSENT: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_NAMED: Final = 8  # models of a worker that are told

Asked = tuple[str, str]  # model, version
Index = Sequence[pb.RepositoryIndexResponse.ModelIndex]
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Target:
    """An address, what `:authority` to call it by, and what is to answer there."""

    address: str
    authority: str
    asked: tuple[Asked, ...]


def targets(settings: Settings) -> list[Target]:
    """Where the gateway would call: each copy, or each host by the mesh; none where gRPC's xDS client finds them."""
    upstream = settings.upstream
    if upstream.mode == "xds":
        return []
    if upstream.mode == "mesh":
        return [
            Target(upstream.proxy or model.host, model.host, tuple((model.name, version) for version in model.versions))
            for model in settings.models
        ]
    found: dict[str, list[Asked]] = {}
    for model, versions in upstream.endpoints.items():
        for version, addresses in versions.items():
            for address in addresses:
                found.setdefault(address, []).append((model, version))
    return [Target(address, settings.catalog[asked[0][0]].host, tuple(asked)) for address, asked in found.items()]


async def worker(target: Target, patience: float) -> AsyncIterator[Finding]:
    """Whether a worker answers there, and has each model in its version; a call may take `patience` seconds."""
    options = (*CHANNEL, ("grpc.default_authority", target.authority))
    async with grpc.aio.insecure_channel(target.address, options=options) as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)
        try:
            await stub.ServerLive(pb.ServerLiveRequest(), timeout=patience)
        except grpc.aio.AioRpcError as error:
            if error.code() in _ABSENT:
                yield _absent(target, error)
                return
        for finding in await asyncio.gather(*(_model(stub, target.address, one, patience) for one in target.asked)):
            yield finding


def _absent(target: Target, error: grpc.aio.AioRpcError) -> Finding:
    models = ", ".join(f"{model} version {version}" for model, version in target.asked)
    do = "start it, or correct where upstream says that it is (upstream.endpoints, upstream.proxy, a model's host)"
    return Finding(_AREA, "error", f"no worker answers at {target.address}, for {models}: {_told(error)}", do)


async def _model(stub: rpc.GRPCInferenceServiceStub, address: str, asked: Asked, patience: float) -> Finding:
    model, version = asked
    what = f"{model} version {version} at {address}"
    request = pb.ModelReadyRequest(name=model, version=version)
    metadata = ((MODEL_NAME, model), (MODEL_VERSION, version))  # a mesh finds the copies by these
    try:
        answer = await stub.ModelReady(request, timeout=patience, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        why = _told(error)
    else:
        if answer.ready:
            return Finding(_AREA, "ok", f"{what} is ready")
        why = "the worker says that it is not ready"
    index = await _index(stub, metadata, patience)
    do = "see to the model in the worker's repository, or correct upstream.endpoints"
    return Finding(_AREA, "error", f"{what}: {why}{_why(index, asked)}", do)


async def _index(stub: rpc.GRPCInferenceServiceStub, metadata: Metadata, patience: float) -> Index:
    """What the worker has; nothing where it does not say."""
    try:
        return (await stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=patience, metadata=metadata)).models
    except grpc.aio.AioRpcError:
        return ()


def _why(index: Index, asked: Asked) -> str:
    """What the index adds: the reason of the model's state, or else what there is instead."""
    for one in index:
        if one.name == asked[0] and one.version in ("", asked[1]) and one.state != "READY":
            return f"; its state is {one.state or 'not loaded'}{f': {one.reason}' if one.reason else ''}"
    names = [f"{one.name} {one.version}".strip() for one in index]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; it has {', '.join(names[:_NAMED])}{more}" if names else ""


def xds(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether gRPC's xDS client would find its control plane's bootstrap."""
    if settings.upstream.mode != "xds":
        return
    if (mistake := mistake_in_bootstrap(environ)) is not None:
        do = f"start the gateway with {BOOTSTRAP_FILE}, as headrace mesh up --xds does"
        yield Finding(_AREA, "warning", mistake, do)
    else:
        yield Finding(_AREA, "ok", "gRPC's xDS client finds the copies; they were not asked")


def _told(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name} {error.details() or ''}".strip()
