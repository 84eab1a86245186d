"""Live weights: read from the files, kept while the versions are the same."""

from __future__ import annotations

import pytest

from mesh.istio.document import RefusedError
from mesh.render.destination_rule import destination_rule
from mesh.render.routes import virtual_service
from mesh.render.text import file_of
from mesh.render.weights import Live, live, of_route, shifted, starting
from tests.mesh.render.models import canary, model, service

HOST = "digits.models.svc.cluster.local"
SHIFTED: Live = {(HOST, "digits-default"): {"1": 20, "2": 80}}


def written(*models, weights: Live = {}) -> dict[str, str]:  # noqa: B006 - it is not changed
    found = service(*models)
    return {found.file: file_of([virtual_service(found, weights), destination_rule(found)])}


def test_what_is_written_is_read() -> None:
    found = live(written(canary(), weights=SHIFTED))
    assert found == {**SHIFTED, (HOST, "digits-default-stream"): {"1": 90, "2": 10}}


def test_from_a_host_alone_to_a_shared_one_and_back() -> None:
    alone, shared = live(written(canary(), weights=SHIFTED)), live(written(canary(), model("faces"), weights=SHIFTED))
    assert alone == shared


def test_a_route_keeps_its_weights_in_the_catalogs_order() -> None:
    assert list(of_route(canary(), HOST, "digits-default", {(HOST, "digits-default"): {"2": 80, "1": 20}}).items()) == [
        ("1", 20),
        ("2", 80),
    ]


@pytest.mark.parametrize(
    "found",
    [
        {},
        {(HOST, "digits-default"): {"1": 20, "3": 80}},
        {(HOST, "digits-default"): {"1": 20, "2": 70, "3": 10}},
        {(HOST, "other-default"): {"1": 20, "2": 80}},
        {("other.models.svc.cluster.local", "digits-default"): {"1": 20, "2": 80}},
    ],
)
def test_other_versions_routes_or_hosts_start_over(found: Live) -> None:
    assert of_route(canary(), HOST, "digits-default", found) == {"1": 90, "2": 10}


def test_where_weights_start() -> None:
    versions = {version: {"version": version} for version in "123"}
    assert starting(canary(versions=versions)) == {"1": 90, "2": 10, "3": 0}


def test_models_whose_weights_are_not_those_of_their_traffic() -> None:
    services = [service(canary())]
    assert shifted(services, SHIFTED) == {"digits": {"1": 20, "2": 80}}
    assert shifted(services, {(HOST, "digits-default-stream"): {"1": 0, "2": 100}}) == {"digits": {"1": 0, "2": 100}}
    assert shifted(services, {(HOST, "digits-default"): {"1": 90, "2": 10}}) == {}
    assert shifted(services, {}) == {}


def test_routes_that_are_broken_are_refused() -> None:
    ((name, text),) = written(canary()).items()
    with pytest.raises(RefusedError, match=r"digits\.yaml:\d+: VirtualService models/digits: .*weight"):
        live({name: text.replace("weight: 90", "weight: most")})
    # What is not about routes is written anew in any case.
    assert live({name: text.replace("ISTIO_MUTUAL", "NONSENSE")}) == live({name: text})
