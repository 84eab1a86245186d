"""Hosts and names as Istio reads them."""

from __future__ import annotations

import pytest

from mesh.istio.names import check_address_or_network, check_fqdn, check_host, check_labels, covers, matches, qualified
from mesh.istio.world import most_specific


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("digits", "digits.models.svc.cluster.local"),
        ("digits.other", "digits.other"),
        ("a.b.svc.cluster.local", "a.b.svc.cluster.local"),
        ("*", "*"),
        ("*.example", "*.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_short_names(host: str, full: str) -> None:
    assert qualified(host, "models") == full


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("a.com", "a.com", True),
        ("a.com", "b.com", False),
        ("*.com", "a.com", True),
        ("*.com", "*.a.com", True),
        ("*.a.com", "*.b.com", False),
        ("*", "*.a.com", True),
        ("*.a.com", "a.com", False),
    ],
)
def test_matches_both_ways(one: str, other: str, common: bool) -> None:
    assert matches(one, other) is common
    assert matches(other, one) is common


@pytest.mark.parametrize(
    ("pattern", "host", "holds"),
    [
        ("a.com", "a.com", True),
        ("*.com", "a.com", True),
        ("a.com", "*.com", False),
        ("*.com", "*.a.com", True),
        ("*.a.com", "*.com", False),
        ("*", "*", True),
        ("*.com", "com", False),
    ],
)
def test_covers(pattern: str, host: str, holds: bool) -> None:
    assert covers(pattern, host) is holds


def test_the_most_specific_pattern() -> None:
    patterns = {"*", "*.com", "*.a.com", "x.a.com"}
    assert most_specific("x.a.com", patterns) == "x.a.com"
    assert most_specific("y.a.com", patterns) == "*.a.com"
    assert most_specific("y.b.com", patterns) == "*.com"
    assert most_specific("y", patterns - {"*"}) is None


@pytest.mark.parametrize("bad", ["", "a..b", "-a", "a_b.c", "a." + "b" * 64, "a.*", "x" * 256, "*a*"])
def test_no_host(bad: str) -> None:
    with pytest.raises(ValueError, match=r"domain name|empty|255"):
        check_host(bad)


def test_hosts() -> None:
    for good in ("*", "*.a", "*-a.b", "a.b.", "A1.b"):
        assert check_host(good) == good
    with pytest.raises(ValueError, match="no domain name"):
        check_fqdn("*.a")


@pytest.mark.parametrize("bad", ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "::/129", "a/8", "1.1.1.1/"])
def test_no_network(bad: str) -> None:
    with pytest.raises(ValueError, match="no IP address or network"):
        check_address_or_network(bad)


def test_labels() -> None:
    check_labels({"app": "digits", "example.com/part": "", "a.b_c-d": "1.0"})
    for bad in ({"": "x"}, {"a b": "x"}, {"a": "-x"}, {"a": "x" * 3 + "*"}, {"a/b/c": "x"}):
        with pytest.raises(ValueError, match="label"):
            check_labels(bad)
