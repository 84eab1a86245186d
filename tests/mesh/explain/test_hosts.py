"""Which virtual host an authority belongs to; a real Envoy says the same in test_matcher_in_envoy.py."""

from typing import Any

import pytest

from mesh.explain.hosts import virtual_host

DOMAINS = {
    "exact": ["digits.models", "Upper.models"],
    "long": ["*.models", "*-x.models"],
    "short": ["*models"],
    "start": ["digits.*"],
    "longer start": ["digits.other.*"],
    "all": ["*"],
}


def table(*names: str, ports: bool = True) -> dict[str, Any]:
    hosts = [{"name": name, "domains": DOMAINS[name]} for name in names or DOMAINS]
    return {"virtual_hosts": hosts, "ignore_port_in_host_matching": ports}


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("digits.models", "exact"),
        ("DIGITS.models:8001", "exact"),
        ("upper.models", "exact"),
        ("a.models", "long"),
        ("a-x.models", "long"),
        ("amodels", "short"),
        ("models", "all"),
        ("digits.a", "start"),
        ("digits.other.a", "longer start"),
        ("digits.amodels", "short"),
        ("[fd00::1]:8001", "all"),
    ],
)
def test_the_host_itself_then_the_longest_wildcard(authority: str, name: str) -> None:
    found = virtual_host(table(), authority)
    assert found is not None
    assert found["name"] == name


def test_no_host_is_none() -> None:
    assert virtual_host(table("exact", "long"), "elsewhere") is None
    assert virtual_host({}, "elsewhere") is None


def test_a_port_counts_where_the_table_says_so() -> None:
    assert virtual_host(table("exact", ports=False), "digits.models:8001") is None
