"""What the express lane is told, and when it is told that all has changed."""

from __future__ import annotations

import pytest

from gateway.authorize import Permit
from gateway.call import read_call
from gateway.caller import Caller
from gateway.choose import choose
from gateway.lane import PATH, Generation, Lane
from gateway.rpcs import RPCS, Action
from mesh.catalog import Model
from protos import grpc_service_pb2 as pb

CALLER = Caller("https://id.example/", "al@ice", {}, 1000.0)
OWN = {"1": {"version": "v1"}, "2": {"version": "v2"}}
BASE = {"name": "digits", "host": "digits.svc:8001", "versions": OWN, "traffic": {"1": 90, "2": 10}, "timeout": "5s"}


def cluster_of(model: Model, version: str) -> str:
    return f"{model.name}/{version}"


def told(version: str = "", path: str = PATH, since: str | None = None, **more: object) -> str:
    """What the lane is told of a call for a model; the draw falls on version 1."""
    model = Model.model_validate(BASE | more)
    lane = Lane(
        Generation(lambda: 1), {CALLER.issuer: 30.0}, lambda model, version: f"{model.name}/{version}", tries=True
    )
    body = pb.ModelInferRequest(model_name="digits", model_version=version).SerializeToString()
    call = read_call(RPCS[path], body)
    permit = Permit(CALLER, "digits", Action.INFER)
    since = lane.generation.word() if since is None else since
    answer = dict(lane.lesson(since, call, permit, choose(call, permit, {"digits": model}, 0.0)))
    return answer.get("x-headrace-permit", "")


def test_a_lesson_holds_all_that_carrying_takes() -> None:
    generation, *rest = told().split(" ")
    assert len(generation) == 16
    assert rest == [
        *("1030000", "5000", str(64 * 1024**2), "0", "2", "unavailable", "90=digits/1;10=digits/2"),
        *("digits.svc:8001", "al%40ice@https://id.example/", "digits", "-", "0"),
    ]


def test_a_version_that_is_named_is_pinned() -> None:
    assert told(version="2").split(" ")[-6:] == [
        *("100=digits/2", "digits.svc:8001", "al%40ice@https://id.example/", "digits", "2", "1"),
    ]


@pytest.mark.parametrize(
    "call",
    [
        {"version": "canary", "aliases": {"canary": "2"}},  # the message is rewritten
        {"versions": {"1": {}, "2": {}}},  # so it is here
        {"versions": {"1": {"version": "v1"}, "2": {}}},  # and here for one in ten
        {"sequence": True},
        {"path": PATH.replace("ModelInfer", "ModelReady")},
        {"since": "another generation"},  # under which the token was verified
        {"since": ""},  # there shall be no lessons
    ],
)
def test_what_the_lane_cannot_do_is_not_taught(call: dict[str, object]) -> None:
    assert told(**call) == ""


def test_a_generation_is_another_whenever_a_part_is() -> None:
    parts: list[object] = ["keys"]
    generation = Generation(lambda: parts[0])
    first = generation.word()
    assert generation.word() == first != ""
    parts[0] = "other keys"
    second = generation.word()
    assert second not in ("", first)
    parts[0] = None
    assert generation.word() == ""
    parts[0] = "other keys"
    assert generation.word() not in ("", first, second)  # who was told to forget has forgotten
