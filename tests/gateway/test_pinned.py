"""Which version a sequence stays with: what is shifted moves new ones alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.authorize import Permit
from gateway.call import read_call
from gateway.caller import Caller
from gateway.choose import Route, choose
from gateway.pinned import Pinned
from gateway.rpcs import RPCS, Action
from mesh.catalog import Model
from protos import grpc_service_pb2 as pb
from protos.contract import SERVICE
from protos.errors import HeadraceError, Reason

INFER = RPCS[f"/{SERVICE}/ModelInfer"]
CALLER = Caller("https://id.example/", "tester", {}, 0.0)
NUMBERS = range(1, 41)


class World:
    """A gateway's sequences, its model as it is configured now, and a clock."""

    def __init__(self, folder: Path | None = None) -> None:
        self.now = 1000.0
        self.pinned = Pinned(folder, lambda: self.now)
        self.configure()

    def configure(self, one: int = 50, stable: str = "1", **more: object) -> None:
        self.model = Model.model_validate(
            {
                "name": "vad",
                "host": "vad.svc:8001",
                "versions": {"1": {"version": "v1"}, "2": {"version": "v2"}},
                "aliases": {"stable": stable},
                "traffic": {"1": one, "2": 100 - one},
                "sequence": {"idle": "10s"},
                **more,
            }
        )

    def route(self, number: int, version: str = "", caller: Caller = CALLER, **flags: bool) -> Route:
        request = pb.ModelInferRequest(model_name="vad", model_version=version)
        request.parameters["sequence_id"].int64_param = number
        for flag, value in flags.items():
            request.parameters[f"sequence_{flag}"].bool_param = value
        call = read_call(INFER, request.SerializeToString())
        route = choose(call, Permit(caller, "vad", Action.INFER), {"vad": self.model}, 0.0)
        stays = self.pinned.stay(call, route)
        read = pb.ModelInferRequest.FromString(stays.body)
        assert (read.model_version, read.parameters["sequence_id"].int64_param) == (
            stays.version,
            int(stays.sequence),
        )
        return stays

    def versions(self, **flags: bool) -> list[str]:
        return [self.route(number, **flags).version for number in NUMBERS]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pinned.close()


def test_a_shift_moves_new_sequences_only(world: World) -> None:
    began = world.versions(start=True)
    assert set(began) == {"1", "2"}
    world.configure(one=0)
    assert world.versions() == began
    assert world.versions(start=True) == ["2"] * len(NUMBERS)  # the same ids, and new sequences
    world.configure(one=100)
    assert world.versions() == ["2"] * len(NUMBERS)


def test_one_that_never_says_that_it_starts_stays_too(world: World) -> None:
    began = world.versions()
    world.configure(one=0)
    assert world.versions() == began


def test_what_has_ended_is_forgotten(world: World) -> None:
    world.versions(start=True)
    world.configure(one=0)
    last = world.versions(end=True)
    assert "1" in last  # it stays until its end
    assert world.versions() == ["2"] * len(NUMBERS)


def test_what_is_silent_for_too_long_is_forgotten(world: World) -> None:
    began = world.versions(start=True)
    world.configure(one=0)
    world.now += 9.0
    assert world.versions() == began
    world.now += 9.0  # since it was heard of last
    assert world.versions() == began
    world.now += 10.0
    assert world.versions() == ["2"] * len(NUMBERS)


def test_without_a_record_it_is_where_it_was_while_the_weights_are_the_same(world: World) -> None:
    began = world.versions(start=True)
    another = World()
    assert another.versions() == began
    another.pinned.close()


def test_processes_of_one_gateway_know_of_each_other(tmp_path: Path) -> None:
    one, other = World(tmp_path), World(tmp_path)
    began = one.versions(start=True)
    other.configure(one=0)
    assert other.versions() == began
    other.versions(end=True)
    one.configure(one=0)
    assert one.versions() == ["2"] * len(NUMBERS)
    one.pinned.close()
    other.pinned.close()


def test_an_alias_that_moves_moves_no_sequence_that_runs(world: World) -> None:
    assert world.route(7, "stable", start=True).version == "1"
    world.configure(stable="2")
    assert world.route(7, "stable").version == "1"
    assert world.route(8, "stable", start=True).version == "2"
    assert world.route(7, "stable", start=True).version == "2"


def test_a_version_that_is_named_is_the_one(world: World) -> None:
    world.configure(one=100)
    world.route(7, start=True)
    assert world.route(7, "2").version == "2"
    assert world.route(7).version == "1"


def test_callers_do_not_move_each_others(world: World) -> None:
    world.configure(one=100)
    world.route(7, start=True)
    world.configure(one=0)
    other = Caller("https://id.example/", "other", {}, 0.0)
    assert world.route(7, caller=other, start=True, end=True).version == "2"
    assert world.route(7).version == "1"


def test_a_version_that_is_gone_is_told(world: World) -> None:
    world.configure(one=100)
    world.route(7, start=True)
    world.configure(stable="2", versions={"2": {"version": "v2"}}, traffic={"2": 100})
    with pytest.raises(HeadraceError) as caught:
        world.route(7)
    assert caught.value.reason is Reason.VERSION_UNKNOWN
    assert world.route(7, start=True).version == "2"
