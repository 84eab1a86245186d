"""One Envoy as a process. Law: it never outlives us, however we end (`protos.child`), and ends when told to."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json
from protos import child

_STOP: Final = 5.0  # seconds to end in
_LAST_LINES: Final = 8
_LONGEST_LINE: Final = 300  # characters: it may repeat all of its configuration
_MOST: Final = 64 * 1024  # bytes at the end of a log that are read
_TRACES: Final = ("[backtrace]", "[envoy_bug]")  # which lines of its log say nothing to a user
_TOO_FEW: Final = "fs.inotify.max_user_instances"
_QUIET: Final = ("--log-level", "warning", "--component-log-level", "misc:error,main:error")
_FLUSH: Final = ("--file-flush-interval-msec", "500")  # of access logs
_STRICT: Final = "--reject-unknown-dynamic-fields"  # what it does not understand it refuses, and does not skip
# As Istio starts it (pkg/envoy/proxy.go): callers move to what is in force now with their next call.
_DRAIN: Final = ("--drain-strategy", "immediate", "--drain-time-s", "45")


@dataclass(frozen=True)
class Envoy:
    """A running Envoy, and where it writes what it has to say."""

    process: asyncio.subprocess.Process
    log: Path

    async def ended(self) -> str:
        """How it ended, with its last words; waits for it."""
        code = await self.process.wait()
        said = last_of(self.log)
        if code < 0 and _TOO_FEW in said:
            return f"cannot watch its files: raise {_TOO_FEW} (sysctl), or run fewer workloads"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        lines = [line for line in said.splitlines() if not any(trace in line for trace in _TRACES)][-_LAST_LINES:]
        lines = [line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..." for line in lines]
        return "\n  ".join([how + (", saying:" if lines else ""), *lines])

    def kill(self) -> None:
        """End it at once, even if it hangs."""
        if self.process.returncode is None:
            self.process.kill()

    async def stop(self) -> None:
        """End it; a cancellation on the way does not leave it behind."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(_STOP):
                await self.process.wait()
        except BaseException as error:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
            if not isinstance(error, TimeoutError):
                raise


def last_of(log: Path) -> str:
    """The end of a log; nothing where it is gone."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


async def start(binary: Path, bootstrap: Json, log: Path, threads: int = 1) -> Envoy:
    """Start an Envoy, in a session of its own: a Ctrl-C on the terminal is for us to pass on."""
    with log.open("wb"):  # what another has said is gone
        pass
    with log.open("ab") as output:  # at its end, even after someone has made it short
        process = await asyncio.create_subprocess_exec(
            *child.tied(str(binary)),
            *("--config-yaml", json.dumps(bootstrap), "--disable-hot-restart", "--concurrency", str(threads)),
            *(*_QUIET, *_DRAIN, *_FLUSH, _STRICT),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Envoy(process, log)
