"""The catalog: which models can be written down, and what is known of them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mesh.catalog import Ejection, Model, Retries, Sequences, Shadow, is_loopback, well_formed_version

GOOD: dict[str, object] = {
    "name": "digits",
    "host": "digits.models.svc.cluster.local:8001",
    "versions": {"1": {"version": "v1"}, "2": {"version": "v2"}, "3": {}},
    "aliases": {"stable": "1", "canary": "2"},
    "traffic": {"1": 90, "2": 10, "3": 0},
    "timeout": "5s",
    "max_request": "1MiB",
    "retries": {"attempts": 1, "on": ["unavailable"], "budget": "5%"},
    "forward_token": True,
}


def _model(**changes: object) -> Model:
    merged = {**GOOD, **changes}
    return Model.model_validate({name: value for name, value in merged.items() if value is not ...})


def test_copies_are_of_versions_that_there_are() -> None:
    made = Model.model_validate({"name": "m", "host": "m.svc:1", "versions": {"1": {}}, "copies": {"1": 2, "2": 1}})
    assert list(made.mistakes()) == [(("copies", "2"), "version 2 is not among the versions")]


def test_a_model() -> None:
    model = _model()
    assert (model.name, model.host) == ("digits", "digits.models.svc.cluster.local:8001")
    assert (model.timeout, model.max_request, model.forward_token) == (5.0, 1024**2, True)
    assert model.retries == Retries.model_validate({"attempts": 1, "on": ("unavailable",), "budget": "5%"})
    assert model.retries.budget == 0.05


def test_what_need_not_be_said() -> None:
    model = Model.model_validate({"name": "digits", "host": "digits:8001", "versions": {"1": {}}})
    assert (model.aliases, model.traffic, model.timeout, model.max_request) == ({}, {}, 30.0, 64 * 1024**2)
    assert (model.retries.attempts, model.retries.budget, model.forward_token) == (2, 0.2, False)
    assert "resource-exhausted" not in model.retries.on  # retried overload is an outage


def test_what_need_not_be_said_to_the_mesh() -> None:
    model = Model.model_validate({"name": "digits", "host": "digits:8001", "versions": {"1": {}}})
    assert (model.labels, model.shadow, model.sequence, model.tries) == ({"app": "digits"}, None, None, 2)
    assert (model.breaker.requests, model.breaker.pending, model.retries.per_try) == (1024, 1024, None)
    assert model.ejection == Ejection.model_validate({"errors": 5, "interval": "1s", "time": "5s", "most": "50%"})
    assert _model(ejection=None).ejection is None
    assert _model(host="a.b.svc:80").labels == {"app": "a"}
    assert _model(workload={"app.kubernetes.io/name": "x"}).labels == {"app.kubernetes.io/name": "x"}


def test_how_long_a_silent_sequence_is_remembered() -> None:
    assert [_model(sequence=said).sequence for said in (True, {}, False, None)] == [*[Sequences()] * 2, None, None]
    assert Sequences().idle == 60.0
    kept = _model(sequence={"idle": "5m"}).sequence
    assert kept is not None and kept.idle == 300.0
    for wrong in ({"idle": "0s"}, {"idle": 5}, "yes", {"other": 1}):
        with pytest.raises(ValidationError):
            _model(sequence=wrong)


def test_a_sequence_is_not_tried_again() -> None:
    assert _model(sequence=True, retries=...).tries == 0
    assert list(_model(sequence=True, retries=...).mistakes()) == []
    assert list(_model(sequence=True, retries={"attempts": 0}).mistakes()) == []
    ((place, what),) = _model(sequence=True, retries={"attempts": 1}).mistakes()
    assert (place, what.split(":")[0]) == (("retries", "attempts"), "must be 0")


def test_a_shadow_is_a_version_with_copies_of_its_own() -> None:
    assert _model(shadow={"version": "2", "share": "10%"}).shadow == Shadow(version="2", share="10%")
    assert list(_model(shadow={"version": "2"}).mistakes()) == []
    ((place, what),) = _model(shadow={"version": "4"}).mistakes()
    assert (place, what) == (("shadow", "version"), "version 4 is not among the versions")
    ((place, what),) = _model(shadow={"version": "3"}).mistakes()
    assert (place, "no copies of its own" in what) == (("shadow", "version"), True)


def test_weights_leave_out_what_gets_nothing() -> None:
    assert _model().weights == (("1", 90), ("2", 10))
    assert _model(versions={"7": {}}, aliases={}, traffic={}).weights == (("7", 100),)
    assert _model(versions={"7": {}}, aliases={}, traffic={"7": 100}).weights == (("7", 100),)


@pytest.mark.parametrize(
    ("asked", "version"),
    [("1", "1"), ("3", "3"), ("stable", "1"), ("canary", "2"), ("4", None), ("", None), ("Stable", None), ("v1", None)],
)
def test_resolve(asked: str, version: str | None) -> None:
    assert _model().resolve(asked) == version


def test_versions_without_labels_share_their_copies() -> None:
    model = _model()
    assert [model.shares_copies(version) for version in ("1", "2", "3")] == [False, False, True]


@pytest.mark.parametrize("name", ["digits", "Vision-2.1_a", "_x", "7", "a" * 127])
def test_names(name: str) -> None:
    assert _model(name=name).name == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "a*", "é", "a\n", "a" * 128, 5, None])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(ValidationError, match="name"):
        _model(name=name)


@pytest.mark.parametrize("version", ["0", "01", "-1", "v1", "1.0", "", "9" * 19, " 1", 1])
def test_what_is_no_version(version: object) -> None:
    with pytest.raises(ValidationError, match=r"version|string"):
        _model(versions={version: {}}, aliases={}, traffic={})


@pytest.mark.parametrize("alias", ["", "1", "1a", "-a", "a b", "a" * 64])
def test_what_is_no_alias(alias: str) -> None:
    with pytest.raises(ValidationError, match="alias"):
        _model(aliases={alias: "1"})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"traffic": {"1": 101, "2": -1}}, "less than or equal to 100"),
        ({"traffic": {"1": 99.5, "2": 0.5}}, "integer"),
        ({"timeout": 5}, "needs a unit"),
        ({"max_request": "64"}, "needs a unit"),
        ({"versions": {}}, "at least 1"),
        ({"versions": {"1": {"version": 1}}}, "valid string"),
        ({"host": "digits"}, "HOST:PORT"),
        ({"host": ...}, "Field required"),
        ({"replicas": 2}, "Extra inputs"),
        ({"retries": {"attempts": 5}}, "less than or equal to 4"),
        ({"retries": {"attempts": -1}}, "greater than or equal to 0"),
        ({"retries": {"on": ["timeout"]}}, "Input should be"),
        ({"retries": {"per_try": 2}}, "needs a unit"),
        ({"breaker": {"requests": 0}}, "greater than or equal to 1"),
        ({"ejection": {"most": "0%"}}, "is no share"),
        ({"ejection": {"interval": "0s"}}, "greater than or equal to 0.001"),
    ],
)
def test_models_that_do_not_make_sense(changes: dict[str, object], what: str) -> None:
    assert _model()
    with pytest.raises(ValidationError, match=what):
        _model(**changes)


@pytest.mark.parametrize(
    ("changes", "place", "what"),
    [
        ({"aliases": {"stable": "9"}}, ("aliases", "stable"), "names version 9"),
        ({"traffic": {"1": 90, "9": 10}}, ("traffic", "9"), "version 9 is not among"),
        ({"traffic": {"1": 90, "2": 9}}, ("traffic",), "add up to 99, not 100"),
        ({"traffic": {"1": 90, "2": 20}}, ("traffic",), "add up to 110, not 100"),
        ({"traffic": {"1": 0, "2": 0}}, ("traffic",), "add up to 0"),
        ({"traffic": {}}, (), "several versions need traffic"),
        ({"traffic": ...}, (), "several versions need traffic"),
        ({"timeout": "0s"}, ("timeout",), "must be more than nothing"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, object], place: tuple[str, ...], what: str) -> None:
    assert list(_model().mistakes()) == []
    ((where, told),) = _model(**changes).mistakes()
    assert where == place
    assert what in told


@pytest.mark.parametrize("share", ["0%", "101%", "20", "20 %", "-5%", "2.5%", 0.2, 20])
def test_what_is_no_share(share: object) -> None:
    with pytest.raises(ValidationError, match="is no share"):
        Retries.model_validate({"budget": share})


@pytest.mark.parametrize(("share", "ratio"), [("1%", 0.01), ("20%", 0.2), ("100%", 1.0)])
def test_shares(share: str, ratio: float) -> None:
    assert Retries.model_validate({"budget": share}).budget == ratio


def test_bounds_that_are_none() -> None:
    model = _model(retries={"budget": None}, breaker={"pending": None}, ejection=None)
    assert (model.retries.budget, model.breaker.pending, model.ejection) == (None, None, None)
    assert '"budget":null' in model.model_dump_json()
    assert '"budget":"20%"' in Retries().model_dump_json()


def test_models_do_not_change() -> None:
    model = _model()
    with pytest.raises(ValidationError, match="frozen"):
        model.name = "other"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize("asked", ["1", "9" * 18, "stable", "A.b_c-1"])
def test_well_formed_versions(asked: str) -> None:
    assert well_formed_version(asked)


@pytest.mark.parametrize("asked", ["", "0", "01", "1a", "-", "a/b", "a" * 64, "1\n", "stable\n", "é"])
def test_ill_formed_versions(asked: str) -> None:
    assert not well_formed_version(asked)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.evil", "localhost.evil", "LOCALHOST", "127.1", "localhost."]
)
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)
