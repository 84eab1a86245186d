"""The clients in docs/examples, against a gateway with TLS: the right digit, and refusals told as the README says."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.answer import not_ready, overloaded
from tests.gateway.certificates import Authority
from tests.gateway.tokens import Issuer
from tests.interop import clients
from tests.interop.client_world import ClientWorld
from tests.interop.clients import Client

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

STATUS = {  # by its name without underscores: Go's is ResourceExhausted
    name.replace("_", "").lower(): (int(code), advice)
    for name, code, advice in re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (.*) \|$", clients.README, re.MULTILINE)
}
REFUSED = {  # what a call of the model is refused with, and how often it comes to the model that fails
    "secret": ("permissiondenied", "NOT_GRANTED", 0),
    "ghost": ("notfound", "MODEL_UNKNOWN", 0),
    "wide": ("invalidargument", "", 0),
    "small": ("resourceexhausted", "TOO_LARGE", 0),
    "full": ("resourceexhausted", "OVERLOADED", 3),
    "dead": ("unavailable", "MODEL_NOT_READY", 0),
    "slow": ("deadlineexceeded", "DEADLINE", 1),
    "broken": ("internal", "INTERNAL", 1),
}
WAIT = {"busy": overloaded().retry_after or 0.0, "waking": not_ready().retry_after or 0.0}  # seconds, by RetryInfo


@dataclass(frozen=True)
class Said:
    """How a client ended, what it said, and how long it took in seconds."""

    code: int | None
    answer: str
    errors: str
    took: float

    @property
    def refusals(self) -> list[str]:
        """Its own lines; gRPC may have said more."""
        return [line for line in self.errors.splitlines() if "request_id" in line]


@pytest.fixture(params=list(clients.TOOLS))
def client(request: pytest.FixtureRequest) -> Client:
    return made(request.param)


@functools.cache
def made(name: str) -> Client:
    if missing := clients.missing(name):
        pytest.skip(f"no {', '.join(missing)}")
    return clients.made(name)


async def run(client: Client, world: ClientWorld, model: str = "digits", digit: int = 7, **environment: str) -> Said:
    began = time.monotonic()
    child = await asyncio.create_subprocess_exec(
        *client.command, world.address, model, str(world.samples / f"digit-{digit}.png"),
        cwd=client.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "HEADRACE_CA": str(world.ca), "HEADRACE_TOKEN": world.token, **environment},
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), 60)
    return Said(child.returncode, out.decode(), err.decode(), time.monotonic() - began)


def check(said: Said, status: str, reason: str, *, times: int = 1) -> None:
    """That the client was refused so often, for this reason, and told it as the README says."""
    code, advice = STATUS[status]
    assert said.code == code, said
    assert said.answer == ""
    assert len(said.refusals) == times, said
    for line in said.refusals:
        assert status in line.replace("_", "").lower()
        assert f"{reason}:" in line
        assert f"; {advice} (request_id=" in line


@pytest.mark.parametrize("digit", [0, 7])
async def test_it_reads_the_digit(client: Client, world: ClientWorld, digit: int) -> None:
    for _ in range(20):  # on the express lane until a thread of Envoy's has it that knows such calls
        before = world.answered()
        said = await run(client, world, digit=digit)
        assert (said.code, said.answer, said.refusals) == (0, f"{digit}\n", [])
        if (await carried(world, before))["express" if world.express else "python"]:
            return
    pytest.fail("the express lane carries nothing")


async def carried(world: ClientWorld, before: Counter[str]) -> Counter[str]:
    """How many calls each lane has answered since; awaited, since Envoy's lines come by way of a pipe."""
    deadline = time.monotonic() + 10
    while not (since := world.answered() - before):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return since


@pytest.mark.parametrize("model", REFUSED)
async def test_a_model_that_refuses(client: Client, world: ClientWorld, model: str) -> None:
    world.faults.calls.clear()
    status, reason, calls = REFUSED[model]
    said = await run(client, world, model)
    check(said, status, reason, times=3 if model in {"full", "dead"} else 1)
    assert len(world.faults.calls.get(model, [])) == calls
    assert "CUDA" not in str(said)
    if model == "full":
        first, second, third = world.faults.calls[model]
        assert second - first >= WAIT["busy"]
        assert third - second >= 2 * WAIT["busy"]


@pytest.mark.parametrize("model", ["busy", "waking"])
async def test_it_waits_as_it_was_told_and_tries_again(client: Client, world: ClientWorld, model: str) -> None:
    world.faults.calls.clear()
    said = await run(client, world, model)
    assert (said.code, said.answer) == (0, "7\n")
    assert len(said.refusals) == 1
    first, second = world.faults.calls[model]
    assert second - first >= WAIT[model]


@pytest.mark.parametrize("token", ["none", "expired", "forged"])
async def test_a_token_that_is_no_good(client: Client, world: ClientWorld, token: str) -> None:
    tokens = {"none": "", "expired": world.issuer.token(exp=1), "forged": Issuer().token()}
    said = await run(client, world, HEADRACE_TOKEN=tokens[token])
    check(said, "unauthenticated", "TOKEN_EXPIRED" if token == "expired" else "TOKEN_INVALID")


async def test_their_deadline_is_their_own_where_the_model_has_longer(world: ClientWorld) -> None:
    there = [clients.made(name) for name in clients.TOOLS if not clients.missing(name)]
    for said in await asyncio.gather(*(run(client, world, "silent") for client in there)):
        assert (said.code, said.answer) == (STATUS["deadlineexceeded"][0], "")
        assert said.took > 9


async def test_it_calls_nobody_whose_certificate_another_signed(
    client: Client, world: ClientWorld, tmp_path: Path
) -> None:
    """Negative control of TLS."""
    other = tmp_path / "other.pem"
    other.write_bytes(Authority().pem)
    said = await run(client, world, HEADRACE_CA=str(other))
    assert (said.code, said.answer) == (STATUS["unavailable"][0], "")
    assert "NOT_READY" not in said.errors
