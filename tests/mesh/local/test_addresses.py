from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network

import pytest

from mesh.local.addresses import ADMIN_PORT, SIDECARS, STAND_INS, Addresses, is_free
from mesh.local.failure import MeshError


def everywhere(_address: str) -> bool:
    return True


def test_each_has_one_of_its_own_and_keeps_it() -> None:
    addresses = Addresses(SIDECARS, lambda: 0.0, everywhere)
    assert [addresses.of(key) for key in ("a", "b", "a")] == ["127.64.0.1", "127.64.0.2", "127.64.0.1"]


def test_who_is_forgotten_gets_a_new_one() -> None:
    addresses = Addresses(SIDECARS, lambda: 0.0, everywhere)
    first, kept = addresses.of("a"), addresses.of("b")
    addresses.keep({kept})
    assert (addresses.of("b"), addresses.of("a")) == (kept, "127.64.0.3")
    assert first == "127.64.0.1"


def test_one_that_is_taken_is_passed_over() -> None:
    addresses = Addresses(SIDECARS, lambda: 0.0, lambda address: address != "127.64.0.1")
    assert addresses.of("a") == "127.64.0.2"


@pytest.mark.parametrize("luck", [0.0, 0.5, 1 - 2**-53])
def test_all_are_hosts_of_the_loopback_wherever_it_begins(luck: float) -> None:
    addresses = Addresses(SIDECARS, lambda: luck, everywhere)
    found = [IPv4Address(addresses.of(number)) for number in range(600)]
    assert len(set(found)) == 600
    assert all(address in SIDECARS and int(address) % 256 not in (0, 255) for address in found)


def test_sidecars_and_stand_ins_never_meet() -> None:
    """Where a stand-in listens, no admin page says so."""
    assert not SIDECARS.overlaps(STAND_INS)
    assert all(part.subnet_of(IPv4Network("127.0.0.0/8")) for part in (SIDECARS, STAND_INS))


def test_two_meshes_do_not_begin_in_the_same_part() -> None:
    assert Addresses(SIDECARS, lambda: 0.25, everywhere).of("a") != Addresses(SIDECARS, lambda: 0.5, everywhere).of("a")


def test_an_address_with_an_admin_page_is_not_free() -> None:
    address = "127.63.9.7"
    assert is_free(address)
    with socket.socket() as other:
        other.bind((address, ADMIN_PORT))
        other.listen()
        assert not is_free(address)
    assert is_free(address)


def test_where_none_is_free_it_is_told_and_not_looked_for_for_ever() -> None:
    """A listener at port 15000 of every address takes them all."""
    asked: list[str] = []
    addresses = Addresses(SIDECARS, lambda: 0.0, lambda address: bool(asked.append(address)))
    with pytest.raises(
        MeshError, match="no address for a sidecar is free: does a process listen at port 15000 of every"
    ):
        addresses.of("a")
    assert len(asked) < 5000
