from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mesh.ads.server import Ads
from mesh.istio.proxies import Proxy
from mesh.local.authority import Authority, Certificate
from mesh.local.place import bootstrap_of
from mesh.local.plan import Gateway, Proxyless
from mesh.local.proxyless import Caller, refresh
from tests.mesh.local.scene import FOR_GRPC, names, planned

AUTHORITY = Authority("cluster.local", datetime.now(UTC))


class Heard(Ads):
    """What was published, for whom."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.address = "127.0.0.1:15010"
        self.published_for: list[str] = []

    def publish(self, node: str, configuration: Any) -> None:
        self.published_for.append(node)
        super().publish(node, configuration)


def issue(proxy: Proxy) -> Certificate:
    return AUTHORITY.issue(proxy.spiffe_id("cluster.local"), datetime.now(UTC), timedelta(hours=1))


def what(text: str = FOR_GRPC) -> Proxyless:
    found = planned(text, gateway=Gateway(xds=("127.0.0.1", 15010))).proxyless
    assert found is not None
    return found


def identity(place: Path) -> tuple[str, int]:
    """Whose certificate is there, and its number; the key beside it is its own."""
    certificate = x509.load_pem_x509_certificate((place / "certificate.pem").read_bytes())
    key = load_pem_private_key((place / "key.pem").read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    (name,) = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(name.value), certificate.serial_number


def test_what_grpc_finds(tmp_path: Path) -> None:
    ads = Heard()
    Caller(tmp_path, ads, AUTHORITY.roots, issue, timedelta(seconds=6)).tell(what())
    assert identity(tmp_path)[0] == "spiffe://cluster.local/ns/infer/sa/gateway"
    assert (tmp_path / "roots.pem").read_text() == AUTHORITY.roots
    bootstrap = json.loads(bootstrap_of(tmp_path).read_text())
    assert bootstrap["xds_servers"][0]["server_uri"] == "127.0.0.1:15010"
    assert ads.published_for == [bootstrap["node"]["id"]] == ["sidecar~127.0.0.1~gateway.infer~infer.svc.cluster.local"]
    watched = bootstrap["certificate_providers"]["default"]["config"]
    assert watched == {
        "certificate_file": str(tmp_path / "certificate.pem"),
        "private_key_file": str(tmp_path / "key.pem"),
        "ca_certificate_file": str(tmp_path / "roots.pem"),
        "refresh_interval": "6s",
    }
    assert {(tmp_path / name).stat().st_mode & 0o077 for name in names(tmp_path)} == {0}


def test_it_gets_another_certificate_when_it_is_time_or_is_someone_else(tmp_path: Path) -> None:
    ads = Heard()
    caller = Caller(tmp_path, ads, AUTHORITY.roots, issue, timedelta(seconds=6))
    caller.certify()  # before there is anyone
    assert names(tmp_path) == []
    caller.tell(what())
    first = identity(tmp_path)
    caller.tell(what())
    assert identity(tmp_path) == first
    caller.certify()
    second = identity(tmp_path)
    assert (second[0], second[1] != first[1]) == (first[0], True)
    caller.tell(what(FOR_GRPC.replace("serviceAccount: gateway", "serviceAccount: other")))
    assert identity(tmp_path)[0] == "spiffe://cluster.local/ns/infer/sa/other"


def test_it_stays_the_node_that_it_was(tmp_path: Path) -> None:
    ads = Heard()
    caller = Caller(tmp_path, ads, AUTHORITY.roots, issue, timedelta(seconds=6))
    caller.tell(what())
    caller.tell(what(FOR_GRPC.replace("name: gateway, namespace: infer", "name: other, namespace: infer")))
    assert len(set(ads.published_for)) == 1
    assert len(ads.published_for) == 2


@pytest.mark.parametrize(("lifetime", "seconds"), [(10, 1), (30, 3), (3600, 5), (365 * 24 * 3600, 5)])
def test_grpc_looks_often_enough(lifetime: float, seconds: float) -> None:
    assert refresh(timedelta(seconds=lifetime)) == timedelta(seconds=seconds)
    assert seconds < lifetime / 2
