"""Metadata on its way: nobody but us says what the mesh and the workers decide by."""

from __future__ import annotations

import pytest

from gateway.authorize import Permit
from gateway.caller import Caller
from gateway.choose import Route
from gateway.headers import to_caller, to_worker
from gateway.rpcs import Action
from mesh.catalog import Model
from protos.errors import HeadraceError, Reason

CALLER = Caller("https://id.example/", "tester", {}, 0.0)
PERMIT = Permit(CALLER, "digits", Action.INFER, grant="testers")
OURS = [
    ("x-model-name", "digits"),
    ("x-caller", "tester@https://id.example/"),
    ("x-grant", "testers"),
    ("x-request-id", "7f3a"),
]
PINNED = ("x-model-version", "2")

Pairs = list[tuple[str, str | bytes]]


def _model(*, forward_token: bool) -> Model:
    return Model.model_validate(
        {"name": "digits", "host": "digits.svc:8001", "versions": {"2": {}}, "forward_token": forward_token}
    )


def _sent(received: Pairs, *, forward_token: bool = False, pinned: bool = False) -> Pairs:
    route = Route(_model(forward_token=forward_token), "2", pinned, b"")
    return to_worker(received, PERMIT, route, "7f3a")


def test_ours_alone() -> None:
    assert _sent([]) == OURS
    assert sorted(_sent([], pinned=True)) == sorted([*OURS, PINNED])


def test_the_callers_own_pass_in_order_and_as_often_as_sent() -> None:
    own: Pairs = [("x-team", "red"), ("trace-bin", b"\x00\xff"), ("x-team", "blue"), ("b", ""), ("x-model", "m")]
    assert _sent(own) == [*own, *OURS]
    assert to_caller(own) == tuple(own)


_NAMES = ["x-model-name", "x-model-version", "x-caller", "x-grant", "x-request-id", "x-sequence-id"]
_CONTEXT = ["traceparent", "tracestate", "baggage"]
_HOP = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "server",
    "sw8",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    ":authority",
    ":path",
    "grpc-timeout",
    "grpc-previous-rpc-attempts",
    "grpc-trace-bin",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-retry-on",
    "x-forwarded-for",
    "x-forwarded-client-cert",
    "x-istio-attributes",
    "x-headrace-anything",
]


def _spellings(key: str) -> list[str]:
    return sorted({key, key.upper(), key.title(), key.replace("-", "_"), key.title().replace("-", "_")})


@pytest.mark.parametrize("key", [spelt for key in (*_NAMES, *_CONTEXT, *_HOP) for spelt in _spellings(key)])
def test_what_a_proxy_could_take_for_ours_is_dropped_both_ways(key: str) -> None:
    received: Pairs = [("x-kept", "1"), (key, "evil"), (key, "evil"), ("kept", "2")]
    assert _sent(received) == [("x-kept", "1"), ("kept", "2"), *OURS]
    assert _sent(received, pinned=True, forward_token=True)[:2] == [("x-kept", "1"), ("kept", "2")]
    assert to_caller(received) == (("x-kept", "1"), ("kept", "2"))


@pytest.mark.parametrize("key", _NAMES)
def test_each_of_ours_is_there_once_at_most(key: str) -> None:
    received: Pairs = [(spelt, "evil") for spelt in _spellings(key) for _ in range(2)]
    for pinned in (True, False):
        values = [value for name, value in _sent(received, pinned=pinned) if name == key]
        assert len(values) <= 1
        assert "evil" not in values


def test_without_a_pin_no_version_travels_even_if_the_caller_sends_one() -> None:
    assert "x-model-version" not in dict(_sent([("x-model-version", "1")]))
    assert dict(_sent([("x-model-version", "1")], pinned=True))["x-model-version"] == "2"


def test_a_sequence_travels_by_the_id_that_workers_know_it_by() -> None:
    route = Route(_model(forward_token=False), "2", True, b"", "7f00", "camera 1")
    sent = to_worker([("x-sequence-id", "mine")], PERMIT, route, "7f3a")
    assert [value for name, value in sent if name == "x-sequence-id"] == ["7f00"]


@pytest.mark.parametrize("key", ["x-model-names", "my-x-caller", "x-request", "grpc", "xgrpc-a", "hosts", "x-envoy"])
def test_names_that_only_look_alike_pass(key: str) -> None:
    assert _sent([(key, "v")]) == [(key, "v"), *OURS]


def test_the_token_stops_here_unless_the_model_asks_for_it() -> None:
    token = ("authorization", "Bearer a.b.c")
    assert _sent([token]) == OURS
    assert _sent([token], forward_token=True) == [token, *OURS]


@pytest.mark.parametrize("key", ["Authorization", "AUTHORIZATION", "aUthorization"])
def test_another_spelling_of_the_token_never_passes(key: str) -> None:
    assert _sent([(key, "Bearer a.b.c")], forward_token=True) == OURS


def test_no_token_goes_back_to_the_caller() -> None:
    assert to_caller([("authorization", "Bearer workers.own.token")]) == ()


def test_binary_values_survive() -> None:
    value = bytes(range(256))
    assert _sent([("blob-bin", value)])[0] == ("blob-bin", value)
    assert to_caller([("blob-bin", value)]) == (("blob-bin", value),)


@pytest.mark.parametrize("key", ["proxy-authorization", "proxy-authenticate", "trailer"])
def test_the_other_hop_by_hop_keys(key: str) -> None:
    assert _sent([(key, "x")]) == OURS


@pytest.mark.parametrize("value", ["caf\xe9", "a\x01b", "a\r\nx-caller: admin", "\x7f"])
def test_text_that_grpc_does_not_carry_is_the_callers_mistake(value: str) -> None:
    with pytest.raises(HeadraceError) as caught:
        _sent([("x-note", value)])
    assert caught.value.reason is Reason.REQUEST_MALFORMED
    assert value not in caught.value.public
    assert ("x-note", "sound") in _sent([("x-note", "sound")])


def test_so_much_metadata_that_a_sidecar_would_refuse_it_is_the_callers_mistake() -> None:
    """The mesh would hold it against the worker, try others, and eject them one after the other."""
    assert len(_sent([(f"x-{number}", "") for number in range(50)])) == 50 + len(OURS)
    with pytest.raises(HeadraceError, match="the metadata has 51 entries for the worker; 50 is the most") as refused:
        _sent([(f"x-{number}", "") for number in range(51)])
    assert refused.value.reason is Reason.REQUEST_MALFORMED
    _sent([("x-own", "v" * 6107)])
    with pytest.raises(HeadraceError, match="the metadata has 6145 bytes for the worker; 6144 is the most"):
        _sent([("x-own", "v" * 6108)])
    _sent([("authorization", "v" * 16000)], forward_token=True)  # of which the verifier knows the bounds
    _sent([("user-agent", "v" * 9000)] * 100)  # what does not travel does not count
