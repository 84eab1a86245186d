"""Which VirtualService is a model's."""

import pytest

from mesh.of_model import Candidate, UnclearError, choose
from mesh.slug import slug

NAMES = Candidate("a", "shared", ("shared.a.svc.cluster.local",), frozenset({"digits", "letters"}))
CALLED = Candidate("a", "digits", ("other.a.svc.cluster.local",))
HOSTED = Candidate("b", "x", ("digits.b.svc.cluster.local",))
SERVICE = Candidate("c", "", ("digits.c.svc.cluster.local",))
WILD = Candidate("d", "all", ("*.d.svc.cluster.local",))


def test_who_names_the_model_comes_before_who_is_called_like_it_before_its_host() -> None:
    assert choose([HOSTED, CALLED, NAMES], "digits") is NAMES
    assert choose([HOSTED, CALLED], "digits") is CALLED
    assert choose([HOSTED, WILD], "digits") is HOSTED
    assert choose([SERVICE, WILD], "digits") is SERVICE


def test_a_model_may_be_called_by_its_name_in_kubernetes() -> None:
    called = Candidate("a", slug("Digits.2"), ("h",))
    assert choose([called, CALLED], "Digits.2") is called


def test_a_host_decides_among_equals_and_for_what_says_nothing_of_the_model() -> None:
    other = Candidate("b", "digits", ("digits.b.svc.cluster.local",))
    assert choose([CALLED, other], "digits", "digits.b.svc.cluster.local:8001") is other
    assert choose([CALLED, WILD], "digits", "anything.d.svc.cluster.local") is WILD
    assert choose([CALLED, WILD], "x", "OTHER.a.svc.cluster.local") is CALLED
    assert choose([Candidate("a", "digits", ("digits.a.svc.cluster.local",))], "digits", "digits").name == "digits"


def test_what_could_be_several_is_not_chosen() -> None:
    other = Candidate("b", "digits", ("digits.b.svc.cluster.local",))
    with pytest.raises(UnclearError, match=r"b/digits \(digits.b.svc.cluster.local\); say which with --host"):
        choose([CALLED, other], "digits")


def test_nothing_is_said_with_what_there_is() -> None:
    with pytest.raises(UnclearError, match=r"^nothing routes for seq; there are VirtualService a/shared, digits.c"):
        choose([NAMES, SERVICE], "seq")
    with pytest.raises(UnclearError, match=r"^nothing routes for seq for h; there are no VirtualServices$"):
        choose([], "seq", "h")
