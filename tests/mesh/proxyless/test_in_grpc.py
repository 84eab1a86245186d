"""What gRPC's own client makes of what is compiled for it, and of what is refused before it ever sees it.

A refusal that gRPC has outgrown shows here: then what it refuses works.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio

from mesh.ads.server import Ads, serving
from mesh.ads.stream import CLUSTER, Verdict
from mesh.envoy.endpoints import endpoints
from mesh.istio.world import World
from mesh.proxyless.bootstrap import bootstrap, node_id
from mesh.proxyless.clusters import clusters
from mesh.proxyless.generate import generate
from mesh.proxyless.listeners import listeners
from mesh.proxyless.routes import routes
from tests.mesh.envoy.istio_vectors import GATEWAY, world_alone

Headers = dict[str, str]
Said = tuple[str, str, float]


@dataclass
class Copy(grpc.GenericRpcHandler):
    """A worker that says its name, after a while, or fails with a status; it counts its calls."""

    name: str
    status: grpc.StatusCode | None = None
    after: float = 0
    calls: list[Headers] = field(default_factory=list)
    port: int = 0

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.calls.append({key: str(value) for key, value in context.invocation_metadata()})
        await asyncio.sleep(self.after)
        if self.status is not None:
            await context.abort(self.status, "as told")
        return self.name.encode()


@dataclass
class Mesh:
    """A control plane, a client, and workers by name."""

    ads: Ads
    heard: list[Verdict]
    client: asyncio.subprocess.Process
    copies: dict[str, Copy]

    def publish(self, *services: str, refusing: bool = True) -> None:
        """What is compiled of services; `refusing` or not what gRPC cannot do."""
        world = world_alone("\n---\n".join(services))
        self.ads.publish(node_id(GATEWAY), generate(world, GATEWAY) if refusing else compiled(world))

    def service(self, name: str, *copies: str, rule: str = "", http: str = "") -> str:
        """A service of these copies, each a subset of its own; with a traffic policy, with routes."""
        host = f"{name}.svc.example.com"
        entry = ", ".join(
            f"{{address: 127.0.0.1, ports: {{grpc: {self.copies[copy].port}}}, labels: {{is: {copy}}}}}"
            for copy in copies
        )
        subsets = ", ".join(f"{{name: {copy}, labels: {{is: {copy}}}}}" for copy in copies)
        found = [
            resource(
                "ServiceEntry", name, f"{{hosts: [{host}], resolution: STATIC, ports: [{PORT}], endpoints: [{entry}]}}"
            ),
            resource(
                "DestinationRule", name, f"{{host: {host}, subsets: [{subsets}]{rule and f', trafficPolicy: {rule}'}}}"
            ),
        ]
        if http:
            found.append(resource("VirtualService", name, f"{{hosts: [{host}], http: [{http}]}}"))
        return "\n---\n".join(found).replace("HOST", host)

    async def call(self, *calls: tuple[str, Headers]) -> list[Said]:
        """Calls at once: (service, headers) each."""
        assert self.client.stdin is not None
        assert self.client.stdout is not None
        asked = [(f"{name}.svc.example.com:8001", headers, 10) for name, headers in calls]
        self.client.stdin.write(json.dumps(asked).encode() + b"\n")
        line = await asyncio.wait_for(self.client.stdout.readline(), 30)
        found: list[Said] = json.loads(line)
        return found


PORT = "{number: 8001, name: grpc, protocol: GRPC}"


def resource(kind: str, name: str, spec: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: models}}
spec: {spec}
"""


def to(copy: str, match: str = "", more: str = "") -> str:
    """A route to one copy."""
    when = f"match: [{match}], " if match else ""
    return f"{{{when}route: [{{destination: {{host: HOST, subset: {copy}}}}}]{more and f', {more}'}}}"


def compiled(world: World) -> dict[str, list[dict[str, object]]]:
    """Everything, what gRPC cannot do as well."""
    return {
        "listeners": listeners(world, GATEWAY),
        "routes": routes(world, GATEWAY),
        "clusters": clusters(world, GATEWAY),
        "endpoints": endpoints(world, GATEWAY),
    }


@contextlib.asynccontextmanager
async def mesh(*copies: Copy) -> AsyncIterator[Mesh]:
    heard: list[Verdict] = []
    async with contextlib.AsyncExitStack() as stack:
        for copy in copies:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((copy,))
            copy.port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
        ads = await stack.enter_async_context(serving("127.0.0.1:0", heard.append))
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.mesh.proxyless.grpc_client",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap(ads.address, GATEWAY))},
        )  # fmt: skip
        try:
            yield Mesh(ads, heard, client, {copy.name: copy for copy in copies})
        finally:
            client.kill()
            await client.communicate()


def plain(said: Sequence[Said]) -> list[str]:
    return [text if status == "OK" else status for status, text, _ in said]


async def test_what_it_does() -> None:
    """Matches by header and path, retries by status, a ring, limits of running calls, faults."""
    async with mesh(
        Copy("a"), Copy("b"), Copy("busy", after=0.5), Copy("down", grpc.StatusCode.UNAVAILABLE),
        Copy("picky", grpc.StatusCode.INVALID_ARGUMENT),
    ) as world:  # fmt: skip
        retries = "retries: {attempts: 4, retryOn: 'unavailable,resource-exhausted', backoff: 2ms}"
        matches = [
            to("b", "{headers: {x-exact: {exact: '1'}}}"),
            to("b", "{headers: {x-regex: {regex: 'a|b'}}}"),
            to("b", "{headers: {x-there: {}}, withoutHeaders: {x-not: {}}}"),
            to("b", "{uri: {prefix: /INFERENCE.}, ignoreUriCase: true, headers: {x-path: {prefix: p}}}"),
            to("a"),
        ]
        world.publish(
            world.service("match", "a", "b", http=", ".join(matches)),
            world.service("down", "down", http=to("down", more=retries)),
            world.service("picky", "picky", http=to("picky", more=retries)),
            world.service("half", "a", "down", http="{route: [{destination: {host: HOST}}], " + retries + "}"),
            world.service("ring", "a", "b", rule="{loadBalancer: {consistentHash: {httpHeaderName: x-sequence-id}}}"),
            world.service("busy", "busy", rule="{connectionPool: {http: {http2MaxRequests: 2}}}"),
            world.service(
                "abort", "a", http=to("a", more="fault: {abort: {grpcStatus: ABORTED, percentage: {value: 100}}}")
            ),
            world.service(
                "delay", "a", http=to("a", more="fault: {delay: {fixedDelay: 300ms, percentage: {value: 100}}}")
            ),
        )
        headers: list[tuple[Headers, str]] = [
            ({}, "a"),
            ({"x-exact": "1"}, "b"), ({"x-exact": "12"}, "a"),
            ({"x-regex": "b"}, "b"), ({"x-regex": "ab"}, "a"),
            ({"x-there": ""}, "b"), ({"x-there": "", "x-not": "1"}, "a"),
            ({"x-path": "pq"}, "b"), ({"x-path": "q"}, "a"),
        ]  # fmt: skip
        assert plain(await world.call(*(("match", sent) for sent, _ in headers))) == [
            expected for _, expected in headers
        ]

        assert plain(await world.call(("down", {}), ("picky", {}))) == ["UNAVAILABLE", "INVALID_ARGUMENT"]
        assert (len(world.copies["down"].calls), len(world.copies["picky"].calls)) == (5, 1)
        assert [plain(await world.call(("half", {}))) for _ in range(6)] == [["a"]] * 6

        sequences = {
            str(number): set(plain(await world.call(*[("ring", {"x-sequence-id": str(number)})] * 5)))
            for number in range(20)
        }
        assert {len(copies) for copies in sequences.values()} == {1}
        assert set().union(*sequences.values()) == {"a", "b"}

        said = await world.call(*[("busy", {})] * 6)
        assert Counter(plain(said)) == {"busy": 2, "UNAVAILABLE": 4}
        assert {text for status, text, _ in said if status != "OK"} == {"circuit breaker drop"}

        (aborted, delayed) = await world.call(("abort", {}), ("delay", {}))
        assert aborted[0] == "ABORTED"
        assert (delayed[1], delayed[2] >= 300) == ("a", True)


async def test_what_it_cannot_do() -> None:
    """For each refusal of routes: gRPC's client takes it, and does not do it."""
    async with mesh(Copy("a"), Copy("b"), Copy("slow", after=0.1), Copy("down", grpc.StatusCode.UNAVAILABLE)) as world:

        def matched(match: str) -> str:
            return f"{to('b', match)}, {to('a')}"

        cases: dict[str, tuple[str, Headers, str]] = {
            # what is asked for, which would answer b or fail; the headers sent; and what gRPC does
            "method": (matched("{method: {exact: POST}}"), {}, "a"),
            "authority": (matched("{authority: {prefix: a}}"), {}, "a"),
            "scheme": (matched("{scheme: {exact: http}}"), {}, "a"),
            "agent": (matched("{headers: {user-agent: {}}}"), {}, "a"),
            "binary": (matched("{headers: {x-a-bin: {}}}"), {"x-a-bin": "1"}, "a"),
            "upper": (matched("{headers: {X-A: {exact: '1'}}}"), {"x-a": "1"}, "a"),
            "without": (matched("{withoutHeaders: {x-a: {exact: '1'}}}"), {}, "a"),
            "redirect": ("{redirect: {authority: a.example.com}}", {}, "UNAVAILABLE"),
            "response": ("{directResponse: {status: 200}}", {}, "UNAVAILABLE"),
            "rewrite": (to("a", more="rewrite: {authority: inner.example.com}"), {}, "a"),
            "headers": (
                to("a", more="headers: {request: {set: {x-set: '1'}, remove: [x-kept]}}"),
                {"x-kept": "1"},
                "a",
            ),
            "mirror": (to("a", more="mirror: {host: HOST, subset: b}"), {}, "a"),
            "abort200": (to("a", more="fault: {abort: {httpStatus: 200, percentage: {value: 100}}}"), {}, "a"),
        }
        services = [world.service(name, "a", "b", http=http) for name, (http, _, _) in cases.items()]
        retries = "retries: {attempts: 9, perTryTimeout: 20ms, retryOn: 'unavailable,503,reset', backoff: 2ms}"
        services += [
            world.service("many", "down", http=to("down", more=retries)),
            world.service("pertry", "slow", http=to("slow", more=retries)),
            world.service("reset", "down", http=to("down", more="retries: {attempts: 2, retryOn: 'reset,503,5xx'}")),
        ]
        world.publish(*services, refusing=False)
        said = plain(await world.call(*((name, sent) for name, (_, sent, _) in cases.items())))
        assert dict(zip(cases, said, strict=True)) == {name: expected for name, (_, _, expected) in cases.items()}
        assert world.copies["b"].calls == []  # no mirrored call, either
        kept = [sent for sent in world.copies["a"].calls if "x-kept" in sent]
        assert [("x-set" in sent, sent["x-kept"]) for sent in kept] == [(False, "1")]

        assert plain(await world.call(("many", {}))) == ["UNAVAILABLE"]
        assert len(world.copies["down"].calls) == 5  # of ten tries
        assert plain(await world.call(("pertry", {}), ("reset", {}))) == ["slow", "UNAVAILABLE"]
        assert len(world.copies["slow"].calls) == 1
        assert len(world.copies["down"].calls) == 6  # not retried at all
        assert [verdict for verdict in world.heard if verdict.error] == []


async def test_a_routes_timeout_comes_too_early() -> None:
    """By one to two seconds, grpc/grpc#34547: a call of no time at all ends before it begins."""
    async with mesh(Copy("a", after=0.2)) as world:
        world.publish(
            world.service("one", "a", http=to("a", more="timeout: 1s")), world.service("none", "a", http=to("a")),
            refusing=False,
        )  # fmt: skip
        one, none = await world.call(("one", {}), ("none", {}))
        assert (one[0], none[0]) == ("DEADLINE_EXCEEDED", "OK")
        assert len(world.copies["a"].calls) == 1


async def test_what_it_does_not_take() -> None:
    """For a load balancer that it has not, it refuses the cluster; what it does not read, it leaves undone."""
    async with mesh(Copy("a"), Copy("down", grpc.StatusCode.UNAVAILABLE)) as world:
        least = "{loadBalancer: {simple: LEAST_REQUEST}}"
        world.publish(world.service("a", "a", rule="{loadBalancer: {simple: ROUND_ROBIN}}"))
        assert plain(await world.call(("a", {}))) == ["a"]
        table = compiled(world_alone(world.service("b", "a", rule=least)))
        table["clusters"][0]["lb_policy"] = "LEAST_REQUEST"  # as Istio writes it
        world.ads.publish(node_id(GATEWAY), table)
        assert plain(await world.call(("b", {}))) == ["UNAVAILABLE"]
        assert any("LB policy is not supported" in str(told.error) for told in world.heard if told.type == CLUSTER)

        ejection = "{outlierDetection: {consecutive5xxErrors: 1, interval: 1ms, maxEjectionPercent: 100}}"
        without_retries = "{route: [{destination: {host: HOST}}], retries: {attempts: 0}}"
        world.publish(world.service("c", "a", "down", rule=ejection, http=without_retries), refusing=False)
        said = [plain(await world.call(("c", {})))[0] for _ in range(20)]
        assert Counter(said)["UNAVAILABLE"] > 5  # one would do
