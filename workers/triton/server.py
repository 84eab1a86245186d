"""Triton's process and what is around it, put together. Law: nothing else composes; what is made here is ended here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import grpc.aio

from protos import child
from protos import grpc_service_pb2 as pb
from protos.complaints import Complaints
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from protos.log_settings import Logs
from workers import stopping
from workers.errors import StartError
from workers.gpu import DEVICES
from workers.repository import names
from workers.triton import installed
from workers.triton.arguments import Options, arguments
from workers.triton.scratch import scratch
from workers.triton.staging import Stage

log: Final = logging.getLogger("headrace.triton")
_ASK: Final = 0.05  # seconds between questions whether it is up
_INDEX: Final = 30.0  # seconds in which it must tell what it has loaded
_RENEW: Final = 1.0  # seconds between looks at the repository
_GRACE: Final = 5.0  # seconds over the drain that it has to give back its models
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where one that listens there is found
_NOT_THERE: Final = "unloaded"  # the reason of a version that nobody wants


def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; 0 once drained, or when told before it served. Raises StartError.

    A second signal ends Triton at once, and the calls that still run: 1. So does an end of Triton's own.
    """
    return stopping.run(partial(_serve, options), log, Logs(options.service, options.log_format))


async def _serve(options: Options, ready: asyncio.Event, told: asyncio.Event) -> int:
    async with serving(options) as (address, process):
        ready.set()
        sys.stdout.write(f"headrace triton ready on {address}\n")
        sys.stdout.flush()
        tasks = [asyncio.create_task(told.wait()), asyncio.create_task(process.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        if not told.is_set():
            log.error("Triton %s", _ended(process))
            return 1
        log.info("draining: running calls have %g seconds", options.drain)
        return 0


@asynccontextmanager
async def serving(options: Options) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Triton, with all of the repository's models, while the block runs; drained at its end.

    The values are its HOST:PORT and its process. Raises StartError. Cancelled, it waits for no call.
    """
    metrics = options.metrics and _with_port(options.metrics)
    options = replace(options, listen=_with_port(options.listen), metrics=metrics)
    with scratch() as folder:
        server = installed.find(options.server, folder)
        stage = Stage(options.repository, folder / "models", server.backends)
        rate_limited = await asyncio.to_thread(_first, stage)
        gpu = any(device.exists() for device in DEVICES)
        given = arguments(options, server, folder, stage.folder, rate_limited=rate_limited, gpu=gpu)
        async with _running(server, given, options.drain) as process:
            await _up(options, process)
            if metrics:
                log.info("metrics on http://%s/metrics", metrics)
            renewing = asyncio.create_task(_renewed(stage))
            try:
                yield options.listen, process
            finally:
                renewing.cancel()


def _first(stage: Stage) -> bool:
    """Stage the repository; whether its models are for the rate limiter. Raises StartError."""
    try:
        if not names(stage.repository):
            raise StartError(f"{stage.repository} has no model: put one into {stage.repository}/NAME/1/")
        stage.folder.mkdir()
        for error in stage.renew():
            raise StartError(f"{error} (in {stage.repository})")
        return stage.rate_limited()
    except OSError as error:
        raise StartError(f"{error.filename} cannot be read: {error.strerror}") from None


async def _renewed(stage: Stage) -> None:
    """Take up what changes in the repository; it is for whoever manages models to load it."""
    complaints = Complaints(log, time.monotonic)
    while True:
        await asyncio.sleep(_RENEW)
        try:
            for error in await asyncio.to_thread(list, stage.renew()):
                log.warning("%s; it is as it was", error)
        except OSError as error:
            complaints.warn("repository", f"{error.filename} cannot be read: {error.strerror}")


@asynccontextmanager
async def _running(
    server: installed.Server, given: list[str], drain: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Triton's process, in a session of its own: a Ctrl-C on the terminal is for us to pass on."""
    process = await asyncio.create_subprocess_exec(
        *child.tied(str(server.program), signal.SIGTERM),  # so that it drains and gives back shared memory
        *given,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        stderr=sys.stderr.fileno(),
        env=installed.environment(server, os.environ),
        start_new_session=True,
    )
    try:
        yield process
        await _stop(process, drain)
    finally:
        await _kill(process)


async def _stop(process: asyncio.subprocess.Process, drain: float) -> None:
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain + _GRACE):
                await process.wait()


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End it and its stubs, if they are there; they are alone in their group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _up(options: Options, process: asyncio.subprocess.Process) -> None:
    """Return once it serves all of its models. Raises StartError."""
    host, _, port = options.listen.rpartition(":")
    address = f"{_ANYWHERE.get(host, host)}:{port}"
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        while True:
            if process.returncode is not None:
                raise StartError(f"Triton {_ended(process)} before it served: its own words are above")
            try:
                await stub.ServerLive(pb.ServerLiveRequest(), timeout=1)
                index = await stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=_INDEX)
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(_ASK)
    for row in index.models:
        if row.state != "READY" and row.reason != _NOT_THERE:
            what = " ".join(row.reason.split()) or "Triton does not say why"
            raise StartError(f"model '{row.name}' cannot be loaded: {what} (in {options.repository})")


def _ended(process: asyncio.subprocess.Process) -> str:
    code = process.returncode or 0
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def _with_port(address: str) -> str:
    """HOST:PORT with a port that is free where 0 is asked for: Triton does not tell which one it has got."""
    host, _, port = address.rpartition(":")
    if port != "0":
        return address
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host.strip("[]"), 0))
        return f"{host}:{probe.getsockname()[1]}"
