"""Where to: versions, aliases, weights, and messages that are edited without harm."""

from __future__ import annotations

from collections import Counter

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.authorize import Permit
from gateway.call import Call, read_call
from gateway.caller import Caller
from gateway.choose import Route, choose, drawn, find, pin, resolve
from gateway.rpcs import RPCS, Action
from gateway.wire import bytes_field, string_field
from mesh.catalog import Catalog, Model
from protos import grpc_service_pb2 as pb
from protos.contract import SERVICE
from protos.errors import HeadraceError, Reason
from protos.varint import varint

INFER = RPCS[f"/{SERVICE}/ModelInfer"]
CALLER = Caller("https://id.example/", "tester", {}, 0.0)


def _model(**changes: object) -> Model:
    good: dict[str, object] = {
        "name": "digits",
        "host": "digits.models.svc:8001",
        "versions": {"1": {"version": "v1"}, "2": {"version": "v2"}},
        "aliases": {"stable": "1", "canary": "2"},
        "traffic": {"1": 90, "2": 10},
    }
    return Model.model_validate({**good, **changes})


LABELLED = _model()
SHARED = _model(versions={"1": {}, "2": {}})
MIXED = _model(versions={"1": {"version": "v1"}, "2": {}}, traffic={"1": 50, "2": 50})


def _catalog(*models: Model) -> Catalog:
    return {model.name: model for model in models}


def _call(version: str = "", **more: object) -> Call:
    request = pb.ModelInferRequest(model_name="digits", model_version=version, id="r", **more)
    return read_call(INFER, request.SerializeToString())


def _choose(call: Call, model: Model = LABELLED, draw: float = 0.0, name: str = "digits") -> Route:
    return choose(call, Permit(CALLER, name, Action.INFER), _catalog(model), draw)


def _refused(call: Call, model: Model = LABELLED, name: str = "digits") -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        _choose(call, model, name=name)
    return caught.value


def _version_in(route: Route) -> str:
    return pb.ModelInferRequest.FromString(route.body).model_version


# ---- a version is named ----


@pytest.mark.parametrize("model", [LABELLED, SHARED], ids=["labelled", "shared"])
@pytest.mark.parametrize(("asked", "version"), [("1", "1"), ("2", "2"), ("stable", "1"), ("canary", "2")])
@pytest.mark.parametrize("draw", [0.0, 0.95])
def test_a_named_version_is_pinned(model: Model, asked: str, version: str, draw: float) -> None:
    route = _choose(_call(asked), model, draw)
    assert (route.model, route.version, route.pinned, _version_in(route)) == (model, version, True, version)


def test_a_message_that_names_the_version_already_is_not_copied() -> None:
    call = _call("2")
    assert _choose(call).body is call.body


@pytest.mark.parametrize("asked", ["3", "latest", "Stable", "10", "v1"])
def test_unknown_versions(asked: str) -> None:
    error = _refused(_call(asked))
    assert (error.status, error.reason) == (grpc.StatusCode.NOT_FOUND, Reason.VERSION_UNKNOWN)
    assert asked in error.public


def test_a_version_without_traffic_can_be_named() -> None:
    model = _model(traffic={"1": 100, "2": 0})
    assert _choose(_call("2"), model).version == "2"
    assert {_choose(_call(), model, draw / 100).version for draw in range(100)} == {"1"}


# ---- none is named ----


@pytest.mark.parametrize(("draw", "version"), [(0.0, "1"), (0.8999, "1"), (0.9001, "2"), (0.9999, "2")])
def test_copies_of_their_own_are_left_to_the_mesh(draw: float, version: str) -> None:
    call = _call()
    route = _choose(call, LABELLED, draw)
    assert (route.version, route.pinned) == (version, False)
    assert route.body is call.body


@pytest.mark.parametrize(("draw", "version"), [(0.0, "1"), (0.95, "2")])
def test_shared_copies_are_told_the_version(draw: float, version: str) -> None:
    route = _choose(_call(), SHARED, draw)
    assert (route.version, route.pinned, _version_in(route)) == (version, True, version)


def test_each_version_shares_or_does_not() -> None:
    assert [_choose(_call(), MIXED, draw).pinned for draw in (0.2, 0.7)] == [False, True]


def test_an_empty_version_in_the_message_is_replaced() -> None:
    call = read_call(INFER, b"\x12\x00" + string_field(1, "digits"))
    assert _choose(call, SHARED).body == string_field(2, "1") + string_field(1, "digits")


@pytest.mark.parametrize(
    "traffic",
    [{"1": 90, "2": 10}, {"1": 50, "2": 50}, {"1": 1, "2": 99}, {"1": 0, "2": 100}, {"2": 100}, {"2": 33, "1": 67}],
)
def test_draws_fall_by_the_weights_exactly(traffic: dict[str, int]) -> None:
    model = _model(traffic=traffic)
    grid = 10_000
    found = Counter(drawn(model, (step + 0.5) / grid) for step in range(grid))
    assert found == {version: weight * grid // 100 for version, weight in traffic.items() if weight}


def test_the_ends_of_the_draw() -> None:
    model = _model(traffic={"1": 1, "2": 99})
    assert drawn(model, 0.0) == "1"
    assert drawn(model, 1 - 2**-53) == "2"
    halves = _model(traffic={"1": 50, "2": 50})
    assert [drawn(halves, draw) for draw in (0.5 - 2**-53, 0.5)] == ["1", "2"]


def test_one_version_needs_no_traffic() -> None:
    model = _model(versions={"7": {}}, aliases={}, traffic={})
    assert {drawn(model, draw / 10) for draw in range(10)} == {"7"}


# ---- size and name ----


# ---- sequences ----


def _of_sequence(sequence: int | str, version: str = "", **more: object) -> Call:
    request = pb.ModelInferRequest(model_name="digits", model_version=version, **more)
    parameter = request.parameters["sequence_id"]
    if isinstance(sequence, str):
        parameter.string_param = sequence
    else:
        parameter.int64_param = sequence
    return read_call(INFER, request.SerializeToString())


def test_a_sequence_stays_with_the_version_that_it_drew() -> None:
    model = _model(sequence=True, traffic={"1": 50, "2": 50})
    routes = [_choose(_of_sequence(n), model, draw) for n in range(1, 200) for draw in (0.0, 0.999)]
    assert all(route.pinned and route.sequence for route in routes)
    assert all(one.version == other.version for one, other in zip(routes[::2], routes[1::2], strict=True))
    assert 70 < Counter(route.version for route in routes[::2])["1"] < 130


def test_a_sequence_may_name_its_version() -> None:
    route = _choose(_of_sequence(7, "canary"), _model(sequence=True))
    assert (route.version, route.pinned, route.sequence_called) == ("2", True, "7")


@pytest.mark.parametrize("version", ["", "1", "canary"])
@pytest.mark.parametrize("sequence", [7, "camera"])
def test_a_worker_reads_the_id_by_which_it_shall_know_a_sequence(sequence: int | str, version: str) -> None:
    call = _of_sequence(sequence, version, id="r", raw_input_contents=[bytes(1000)])
    route = _choose(call, _model(sequence=True))
    said, read = pb.ModelInferRequest.FromString(call.body), pb.ModelInferRequest.FromString(route.body)
    parameter = read.parameters["sequence_id"]
    assert parameter == pb.InferParameter(
        **({"string_param": route.sequence} if isinstance(sequence, str) else {"int64_param": int(route.sequence)})
    )
    assert read.model_version == route.version
    said.model_version = route.version
    said.parameters["sequence_id"].CopyFrom(parameter)
    assert read == said  # and nothing else is another


def test_what_is_no_sequence_is_drawn_as_ever() -> None:
    assert not _choose(_call(), _model(sequence=True)).pinned
    route = _choose(_of_sequence(7))  # the model keeps no state
    assert (route.pinned, route.sequence) == (False, "")


# ---- what is refused ----


def test_too_large() -> None:
    call = _call(raw_input_contents=[bytes(2000)])
    size = len(call.body)
    assert _choose(call, _model(max_request=f"{size}B"))
    error = _refused(call, _model(max_request=f"{size - 1}B"))
    assert (error.status, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.TOO_LARGE)
    assert str(size) in error.public


def test_unknown_model() -> None:
    error = _refused(_call(), name="nothing")
    assert (error.status, error.reason) == (grpc.StatusCode.NOT_FOUND, Reason.MODEL_UNKNOWN)


def test_the_permit_decides_which_model_not_the_message() -> None:
    other = _model(name="other")
    route = choose(_call(), Permit(CALLER, "other", Action.INFER), _catalog(LABELLED, other), 0.0)
    assert route.model is other


def test_steps() -> None:
    assert find(_catalog(LABELLED), "digits") is LABELLED
    assert resolve(LABELLED, "canary") == "2"
    with pytest.raises(HeadraceError):
        find(_catalog(LABELLED), "Digits")
    with pytest.raises(HeadraceError):
        resolve(LABELLED, "")


def test_other_rpcs_have_their_version_elsewhere() -> None:
    ready = RPCS[f"/{SERVICE}/ModelReady"]
    call = read_call(ready, pb.ModelReadyRequest(name="digits", version="canary").SerializeToString())
    assert pb.ModelReadyRequest.FromString(_choose(call).body) == pb.ModelReadyRequest(name="digits", version="2")


# ---- the edit ----

_TEXT = st.text(max_size=12)
_KEY = st.text("abcdefgh_", min_size=1, max_size=8)
_PARAMETER = st.one_of(
    st.builds(lambda value: pb.InferParameter(bool_param=value), st.booleans()),
    st.builds(lambda value: pb.InferParameter(int64_param=value), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda value: pb.InferParameter(string_param=value), _TEXT),
)
_TENSOR = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=_TEXT,
    datatype=st.sampled_from(["FP32", "BYTES", ""]),
    shape=st.lists(st.integers(-1, 2**40), max_size=3),
    parameters=st.dictionaries(_KEY, _PARAMETER, max_size=2),
)


def _part(**fields: object) -> bytes:
    return pb.ModelInferRequest(**fields).SerializeToString(deterministic=True)


_KNOWN = st.one_of(
    st.builds(lambda tensor: _part(inputs=[tensor]), _TENSOR),
    st.builds(lambda data: _part(raw_input_contents=[data]), st.binary(max_size=40)),
    st.builds(lambda key, value: _part(parameters={key: value}), _KEY, _PARAMETER),
)
_STRANGE_NUMBER = st.integers(8, 2**29 - 1)
_UNKNOWN = st.one_of(
    st.builds(bytes_field, _STRANGE_NUMBER, st.binary(max_size=40)),
    st.builds(lambda number, value: varint(number << 3) + varint(value), _STRANGE_NUMBER, st.integers(0, 2**64 - 1)),
    st.builds(lambda number, data: varint(number << 3 | 1) + data, _STRANGE_NUMBER, st.binary(min_size=8, max_size=8)),
    st.builds(lambda number, data: varint(number << 3 | 5) + data, _STRANGE_NUMBER, st.binary(min_size=4, max_size=4)),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(_KNOWN, _UNKNOWN), max_size=6),
    st.sampled_from([None, "", "stable", "canary", "1", "2"]),
    st.sampled_from(["1", "2"]),
    st.data(),
)
def test_pinning_changes_the_version_and_not_another_byte(
    parts: list[bytes], asked: str | None, version: str, data: st.DataObject
) -> None:
    named = [string_field(1, "digits"), string_field(3, "r-1"), *parts]
    if asked is not None:
        named.append(string_field(2, asked))
    parts = data.draw(st.permutations(named))
    body = b"".join(parts)
    call = read_call(INFER, body)

    route = pin(call, LABELLED, version)

    written = string_field(2, version)
    if asked is None:
        assert route.body == body + written
    else:
        place = parts.index(string_field(2, asked))
        assert route.body == b"".join([*parts[:place], written, *parts[place + 1 :]])
    wanted = pb.ModelInferRequest.FromString(body)
    wanted.model_version = version
    assert _same(pb.ModelInferRequest.FromString(route.body), wanted)
    again = read_call(INFER, route.body)
    assert (again.model, again.version, again.id) == ("digits", version, "r-1")


def _same(one: Message, other: Message) -> bool:
    return one == other and one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
