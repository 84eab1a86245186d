"""What one client is told, and when: the protocol without sockets."""

from __future__ import annotations

import pytest

from mesh.ads.stream import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Answer, Asked, Published, Stream, Verdict


def ask(kind: str, *names: str, nonce: str = "", error: str | None = None) -> Asked:
    return Asked("node", kind, frozenset(names), nonce, error)


def published(version: str = "1", **resources: dict[str, str]) -> Published:
    """By type's short name: name -> something that stands for a resource."""
    kinds = {"listeners": LISTENER, "routes": ROUTES, "clusters": CLUSTER, "endpoints": ENDPOINTS}
    found = {kinds[part]: {name: {"is": text} for name, text in named.items()} for part, named in resources.items()}
    return Published(version, found)


def told(stream: Stream, now: Published) -> list[tuple[str, dict[str, object]]]:
    return [(answer.type, {name: one["is"] for name, one in answer.resources.items()}) for answer in stream.tell(now)]


AB = published(listeners={"a": "1", "b": "1"}, routes={"a": "1", "b": "1"}, clusters={"a": "1", "b": "1"})


def test_a_client_is_told_what_it_asks_for_once() -> None:
    stream = Stream()
    stream.hear(ask(LISTENER, "a"))
    assert stream.node == "node"
    assert list(stream.tell(AB)) == [Answer(LISTENER, "1", "1", {"a": {"is": "1"}})]
    assert told(stream, AB) == []


def test_what_is_not_there_is_told_by_its_absence() -> None:
    stream = Stream()
    stream.hear(ask(LISTENER, "c"))
    assert told(stream, AB) == [(LISTENER, {})]
    assert told(stream, AB) == []


def test_more_names_get_all_that_is_there() -> None:
    stream = Stream()
    stream.hear(ask(ROUTES, "a"))
    told(stream, AB)
    stream.hear(ask(ROUTES, "a", "b", nonce="1"))
    assert told(stream, AB) == [(ROUTES, {"a": "1", "b": "1"})]


def test_fewer_names_get_no_answer_and_are_forgotten() -> None:
    stream = Stream()
    stream.hear(ask(ROUTES, "a", "b"))
    told(stream, AB)
    stream.hear(ask(ROUTES, "a", nonce="1"))
    assert told(stream, AB) == []
    stream.hear(ask(ROUTES, "a", "b", nonce="1"))
    assert told(stream, AB) == [(ROUTES, {"a": "1", "b": "1"})]
    stream.hear(ask(ROUTES, nonce="2"))
    assert told(stream, AB) == []


@pytest.mark.parametrize("kind", [LISTENER, ROUTES, CLUSTER, ENDPOINTS])
def test_a_change_is_told_and_only_to_who_asked_for_it(kind: str) -> None:
    one, other = Stream(), Stream()
    one.hear(ask(kind, "a"))
    other.hear(ask(kind, "b"))
    before, after = (Published(version, {kind: {"a": {"is": version}, "b": {"is": "1"}}}) for version in ("1", "2"))
    for stream in (one, other):
        told(stream, before)
    assert told(one, after) == [(kind, {"a": "2"})]
    assert told(other, after) == []


def test_where_calls_can_go_is_told_before_that_they_do() -> None:
    stream = Stream()
    for kind in (ROUTES, LISTENER, ENDPOINTS, CLUSTER):
        stream.hear(ask(kind, "a"))
    everything = published(listeners={"a": "1"}, routes={"a": "1"}, clusters={"a": "1"}, endpoints={"a": "1"})
    assert [kind for kind, _ in told(stream, everything)] == [CLUSTER, ENDPOINTS, LISTENER, ROUTES]


def test_a_cluster_that_goes_is_kept_while_it_is_asked_for() -> None:
    stream = Stream()
    stream.hear(ask(CLUSTER, "a", "b"))
    told(stream, AB)
    assert told(stream, published("2", clusters={"a": "2"})) == [(CLUSTER, {"a": "2", "b": "1"})]
    stream.hear(ask(CLUSTER, "a", nonce="2"))
    stream.hear(ask(CLUSTER, "a", "b", nonce="2"))
    assert told(stream, published("2", clusters={"a": "2"})) == [(CLUSTER, {"a": "2"})]


def test_a_listener_that_goes_is_gone() -> None:
    stream = Stream()
    stream.hear(ask(LISTENER, "a", "b"))
    told(stream, AB)
    assert told(stream, published("2", listeners={"a": "1"})) == [(LISTENER, {"a": "1"})]


def test_verdicts() -> None:
    stream = Stream()
    assert stream.hear(ask(CLUSTER, "a")) is None
    told(stream, AB)
    assert stream.hear(ask(CLUSTER, "a", nonce="1")) == Verdict("node", CLUSTER, "1", None)
    assert stream.hear(ask(CLUSTER, "a", "b", nonce="1")) is None  # another wish, no other verdict
    told(stream, AB)
    assert stream.hear(ask(CLUSTER, "a", "b", nonce="2", error="no")) == Verdict("node", CLUSTER, "1", "no")


def test_what_speaks_of_an_older_answer_is_passed_over() -> None:
    stream = Stream()
    stream.hear(ask(ROUTES, "a"))
    told(stream, AB)
    told(stream, published("2", routes={"a": "2"}))
    assert stream.hear(ask(ROUTES, "b", nonce="1")) is None
    assert stream.hear(ask(ROUTES, "b")) is None
    assert told(stream, published("2", routes={"a": "2", "b": "2"})) == []
    assert stream.hear(ask(ROUTES, "a", nonce="2")) == Verdict("node", ROUTES, "2", None)


def test_types_are_apart() -> None:
    stream = Stream()
    stream.hear(ask(ROUTES, "a"))
    stream.hear(ask(CLUSTER, "a"))
    assert [answer.nonce for answer in stream.tell(AB)] == ["1", "2"]
    assert stream.hear(ask(ROUTES, "a", nonce="2")) == Verdict("node", ROUTES, "1", None)
    assert stream.hear(ask(CLUSTER, "a", nonce="2")) is None


def test_a_type_that_no_one_publishes_is_empty() -> None:
    stream = Stream()
    stream.hear(ask("envoy.extensions.transport_sockets.tls.v3.Secret", "a"))
    assert told(stream, AB) == [("envoy.extensions.transport_sockets.tls.v3.Secret", {})]
