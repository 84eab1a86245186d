"""What holds for every way through a mesh: a channel for each host, and who may be met there."""

from __future__ import annotations

import grpc.aio
import pytest

from gateway.by_host import ByHost
from gateway.choose import Route
from gateway.upstream import Line
from mesh.catalog import Catalog, Model


def model(name: str, host: str, **versions: dict[str, str]) -> Model:
    labels = {name.removeprefix("v"): labels for name, labels in versions.items()}
    traffic = {version: 100 if version == "1" else 0 for version in labels}
    return Model.model_validate({"name": name, "host": host, "versions": labels, "traffic": traffic})


ONE, TWO = {"version": "v1"}, {"version": "v2"}
CATALOG: Catalog = {
    one.name: one
    for one in (
        model("digits", "digits.svc:8001", v1=ONE, v2=TWO),
        model("a", "triton.svc:8001", v1={"pool": "a100"}, v2={}),
        model("b", "triton.svc:8001", v1={"pool": "l4"}),
        model("c", "triton.svc:8001", v1={"gpu": "yes"}),
    )
}


def route(name: str, version: str = "1") -> Route:
    return Route(CATALOG[name], version, pinned=True, body=b"body")


def by_host(catalog: Catalog = CATALOG) -> ByHost:
    return ByHost(catalog, grpc.aio.insecure_channel, {})


@pytest.mark.parametrize(
    ("name", "version", "beside"),
    [
        ("digits", "1", {"digits"}),
        ("a", "1", {"a", "c"}),  # a copy may have both labels
        ("a", "2", {"a", "b", "c"}),
        ("b", "1", {"a", "b", "c"}),  # a's second version is on every copy
        ("c", "1", {"a", "b", "c"}),
    ],
)
def test_models_beside(name: str, version: str, beside: set[str]) -> None:
    assert by_host().models_beside(route(name, version)) == beside


async def keys(upstream: ByHost, *ways: Route) -> set[object]:
    return {copy.key for way in ways for copy in await upstream.copies(way)}


async def test_copies_are_told_apart_by_host_and_labels() -> None:
    ways = [route(*way) for way in (("digits", "1"), ("digits", "2"), ("a", "1"), ("b", "1"))]
    assert len(await keys(by_host(), *ways)) == 4
    other = model("d", "triton.svc:8001", v1={})
    shared = by_host({**CATALOG, "d": other})
    assert len(await keys(shared, route("a", "2"), Route(other, "1", pinned=True, body=b""))) == 1


async def test_copies_are_called_one_by_one_where_it_is_said_how_many_there_are() -> None:
    said = CATALOG["digits"].model_copy(update={"copies": {"1": 3}})
    upstream = by_host({"digits": said})
    each = await upstream.copies(Route(said, "1", pinned=True, body=b""))
    assert [copy.words for copy in each] == [(("x-headrace-copy", number),) for number in "012"]
    assert len({copy.key for copy in each}) == 3
    assert all(copy.alone for copy in each)
    (whichever,) = await upstream.copies(Route(said, "2", pinned=True, body=b""))
    assert (whichever.words, whichever.alone) == ((), False)


@pytest.mark.parametrize(
    ("endpoints", "local"),
    [
        ({}, False),
        ({"1": ("127.0.0.1:1",)}, False),  # where the others are nobody says
        ({"1": ("127.0.0.1:1",), "2": ("127.0.0.1:2",)}, True),
        ({"1": ("127.0.0.1:1",), "2": ("10.0.0.1:2",)}, False),
    ],
)
def test_a_model_is_local_if_all_its_copies_are_known_to_be(endpoints: dict[str, tuple[str, ...]], local: bool) -> None:
    upstream = ByHost(CATALOG, grpc.aio.insecure_channel, {"digits": endpoints} if endpoints else {})
    assert upstream.local == ({"digits"} if local else set())


async def test_a_host_is_dialled_once_and_its_channel_closed() -> None:
    dialled: list[str] = []

    def dial(host: str) -> grpc.aio.Channel:
        dialled.append(host)
        return grpc.aio.insecure_channel(host)

    upstream = ByHost(CATALOG, dial, {})
    channels = [upstream.line(route(*way)).channel for way in (("a", "1"), ("a", "2"), ("b", "1"), ("digits", "1"))]
    assert dialled == ["triton.svc:8001", "digits.svc:8001"]
    assert channels[0] is channels[1] is channels[2]
    await upstream.close()
    with pytest.raises(grpc.aio.UsageError):
        await channels[0].channel_ready()


async def test_a_host_gets_another_line_when_all_that_it_has_are_full() -> None:
    upstream = ByHost(CATALOG, grpc.aio.insecure_channel, {}, {"digits.svc:8001": 2}, full=2)

    def line() -> Line:
        return upstream.line(route("digits"))

    try:
        with line() as first, line() as again, line() as second, line() as last:
            assert first is again is not second
            assert last is second
            with line() as beyond, line() as further:
                assert {beyond, further} == {first, second}
            assert line().running == 2
        assert (line().channel, line().running) == (first, 0)
    finally:
        await upstream.close()
