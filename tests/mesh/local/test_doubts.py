"""What is told of resources that Istio takes."""

from __future__ import annotations

import pytest

from mesh.local.doubts import doubts
from tests.mesh.envoy.security import SERVICE, resource, world

SUBSETS = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "any"}, {"name": "v9", "labels": {"version": "v9"}}]
RULE = resource("DestinationRule", "digits", host="digits", subsets=SUBSETS)


def to(subset: str, weight: int) -> dict[str, object]:
    return {"destination": {"host": "digits.models.svc.cluster.local", "subset": subset}, "weight": weight}


def routes(*destinations: dict[str, object], **more: object) -> str:
    return resource("VirtualService", "digits", hosts=["digits"], http=[{"route": list(destinations), **more}])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (routes(to("v1", 80), to("v7", 20)), ".http[0].route[1].destination: no DestinationRule of digits.models.svc."),
        (routes(to("v1", 0), mirror={"host": "digits", "subset": "v7"}), ".http[0].mirror: no DestinationRule of dig"),
        (
            routes(to("v1", 80), to("v9", 20)),
            ".http[0].route[1].destination: no copy of digits.models.svc.c",
        ),
        (
            routes({"destination": {"host": "digitz"}}),
            ".http[0].route[0].destination: no ServiceEntry registers dig",
        ),
        (routes(to("v1", 80), to("any", 30)), ".http[0].route: the weights add up to 110, not 100: each is that share"),
    ],
)
def test_what_is_told(text: str, said: str) -> None:
    (one,) = doubts(world(SERVICE, RULE, text))
    assert one.startswith("a.yaml:")
    assert said in one


@pytest.mark.parametrize("text", [routes(to("v1", 80), to("any", 20)), routes(to("v1", 0)), routes(to("", 7))])
def test_what_is_as_it_should_be(text: str) -> None:
    assert doubts(world(SERVICE, RULE, text)) == ()


def test_without_the_rule_there_are_no_subsets() -> None:
    assert len(doubts(world(SERVICE, routes(to("v1", 80), to("v2", 20))))) == 2
