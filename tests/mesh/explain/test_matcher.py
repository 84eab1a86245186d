"""Why a route is passed over. That the choice is Envoy's, a real one says in test_matcher_in_envoy.py."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.envoy.matches import route_match
from mesh.explain.matcher import unmet
from mesh.istio.http_route import HTTPMatchRequest

CALL = {":path": ("/p",), ":authority": ("h",), ":method": ("POST",), "x-model-version": ("2",), "x-two": ("a", "b")}


def why_not(match: dict[str, Any]) -> tuple[str, ...]:
    return unmet(route_match(HTTPMatchRequest.read(match)), CALL)


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ({"uri": {"exact": "/q"}}, "the path must be /q"),
        ({"uri": {"prefix": "/q"}}, "the path must begin with /q"),
        ({"uri": {"regex": "/q.*"}}, "the path must match /q.*"),
        ({"headers": {"x-model-version": {"exact": "1"}}}, "x-model-version must be 1, and is 2"),
        ({"headers": {"x-two": {"prefix": "c"}}}, "x-two must begin with c, and is a, b"),
        ({"headers": {"x-tier": {"exact": "gold"}}}, "x-tier must be gold, and is not there"),
        ({"headers": {"x-tier": {}}}, "x-tier must be there"),
        ({"withoutHeaders": {"x-model-version": {}}}, "x-model-version must not be there"),
        ({"withoutHeaders": {"x-model-version": {"regex": "[12]"}}}, "x-model-version must not match [12], and is 2"),
        ({"withoutHeaders": {"x-tier": {"exact": ""}}}, "x-tier must not be empty, and is not there"),
        ({"queryParams": {"q": {"prefix": "a"}}}, "the query parameter q must begin with a"),
        ({"method": {"exact": "GET"}}, ":method must be GET, and is POST"),
    ],
)
def test_each_condition_has_its_words(match: dict[str, Any], said: str) -> None:
    assert why_not(match) == (said,)


def test_every_condition_that_is_not_met_is_said() -> None:
    match = {
        "uri": {"exact": "/q"},
        "headers": {"x-a": {}, "x-model-version": {"exact": "2"}},
        "queryParams": {"q": {}},
    }
    assert why_not(match) == ("the path must be /q", "x-a must be there", "the query parameter q must be there")
    assert why_not({}) == ()


def test_a_condition_that_is_not_known_is_no_match_and_no_silence() -> None:
    with pytest.raises(ValueError, match="runtime_fraction"):
        unmet({"prefix": "/", "runtime_fraction": {}}, CALL)
