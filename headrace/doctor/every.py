"""Every check, put together. Law: clock, environment and machine come in here, and nowhere else.

Only this machine and what the configuration names is asked, each for two seconds at most.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from gateway.access_log import STDOUT
from gateway.settings import Settings
from headrace.doctor import certificates, configuration, envoy, gpu, issuers, limits, ports, workers
from headrace.doctor.finding import Check, Finding
from mesh.local.binary import find

_PATIENCE: Final = 2.0  # seconds


@dataclass(frozen=True)
class Here:
    """What checks look at beside the configuration."""

    environ: Mapping[str, str]
    clock: Callable[[], float] = time.time
    envoy: Callable[[], Path] = lambda: find(None)


def checks(settings: Settings | None, here: Here) -> list[Check]:
    """Those that can be made, with the settings or without."""
    return [
        *(() if settings is None else _of_settings(settings, here)),
        Check("envoy", partial(envoy.envoy, settings, here.envoy)),
        Check("gpu", partial(gpu.gpu, Path("/dev"), _providers)),
        Check("limits", partial(limits.disk, _folders(settings, here.environ), _free)),
        Check("limits", partial(_memory, settings)),
        Check("limits", lambda: limits.files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
    ]


def _of_settings(settings: Settings, here: Here) -> list[Check]:
    tls = settings.listen.tls
    return [
        Check("permissions", partial(configuration.files, settings)),
        Check("ports", partial(_ports, settings)),
        *([Check("certificates", partial(certificates.certificates, tls, here.clock))] if tls else []),
        *(Check("keys", partial(issuers.issuer, one, here.clock, _PATIENCE)) for one in settings.issuers),
        Check("workers", partial(workers.xds, settings, here.environ)),
        *(Check("workers", partial(workers.worker, target, _PATIENCE)) for target in workers.targets(settings)),
    ]


async def _ports(settings: Settings) -> AsyncIterator[Finding]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as session:
        async for finding in ports.ports(settings.listen, session):
            yield finding


def _folders(settings: Settings | None, environ: Mapping[str, str]) -> list[Path]:
    """Where a gateway writes: its sockets, its access log, and its audit; each once."""
    log = None if settings is None else settings.telemetry.access_log
    audit = None if settings is None or settings.audit is None else settings.audit.file
    written = Path(environ.get("TMPDIR") or "/tmp")  # noqa: S108 - not tempfile's: that writes to find out
    return list(dict.fromkeys([written, *(path.parent for path in (log, audit) if path not in (None, STDOUT))]))


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _memory(settings: Settings | None) -> list[Finding]:
    processes, largest = (1, 0) if settings is None else (settings.listen.processes, settings.largest)
    return list(limits.memory(limits.available(Path("/")), processes, largest))


def _providers() -> Sequence[str]:
    # Since 1.29 ONNX Runtime reports machines to its makers, unless told otherwise before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 - heavy, and not everywhere

    found: list[str] = onnxruntime.get_available_providers()
    return found
