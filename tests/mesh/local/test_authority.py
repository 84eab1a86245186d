from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from mesh.envoy import mtls
from mesh.envoy.mtls import transport_socket
from mesh.envoy.proto import Json
from mesh.istio.world import World
from mesh.local import up
from mesh.local.authority import Authority, is_due
from mesh.testing import running
from tests.envoy import needs_envoy
from tests.mesh.local.scene import CALLER, DIGITS, SERVICE, STRICT, copy, folder, joined

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ID = "spiffe://cluster.local/ns/models/sa/digits"


def issued(authority: Authority, lifetime: timedelta = HOUR) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.issue(ID, NOW, lifetime).chain.encode())


def verified(leaf: x509.Certificate, roots: str, now: datetime = NOW) -> list[x509.GeneralName] | None:
    """The names of a client whose chain verifies. Its critical SAN of a nameless subject is what SPIFFE asks for."""
    store = Store([x509.load_pem_x509_certificate(roots.encode())])
    ours = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    usage = ExtensionPolicy.permit_all().require_present(x509.KeyUsage, Criticality.CRITICAL, None)
    usage = usage.require_present(x509.SubjectAlternativeName, Criticality.CRITICAL, None)
    builder = PolicyBuilder().store(store).time(now)
    verifier = builder.extension_policies(ca_policy=ours, ee_policy=usage).build_client_verifier()
    return verifier.verify(leaf, []).subjects


def test_a_certificate_is_an_x509_svid() -> None:
    leaf = issued(Authority("cluster.local", NOW))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical  # RFC 5280, section 4.2.1.6: the subject is empty
    assert not list(leaf.subject)
    assert [*names.value] == [x509.UniformResourceIdentifier(ID)]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {*purposes} == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_the_root_signs_leaves_alone() -> None:
    root = x509.load_pem_x509_certificate(Authority("cluster.local", NOW).roots.encode())
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)
    names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [*names] == [x509.UniformResourceIdentifier("spiffe://cluster.local")]


def test_a_certificate_is_good_for_its_lifetime() -> None:
    leaf = issued(Authority("cluster.local", NOW))
    assert leaf.not_valid_after_utc == NOW + HOUR
    assert NOW - timedelta(minutes=5) < leaf.not_valid_before_utc < NOW


def test_the_chain_verifies_and_only_by_its_own_root_and_in_its_time() -> None:
    authority, other = Authority("cluster.local", NOW), Authority("cluster.local", NOW)
    leaf = issued(authority)
    assert verified(leaf, authority.roots) == [x509.UniformResourceIdentifier(ID)]
    with pytest.raises(VerificationError):
        verified(leaf, other.roots)
    for late in (NOW + HOUR + timedelta(seconds=1), NOW - HOUR):
        with pytest.raises(VerificationError):
            verified(leaf, authority.roots, late)


def test_one_that_is_issued_after_the_clock_was_set_back_verifies() -> None:
    authority, before = Authority("cluster.local", NOW), NOW - timedelta(hours=20)
    leaf = x509.load_pem_x509_certificate(authority.issue(ID, before, HOUR).chain.encode())
    assert verified(leaf, authority.roots, before)


def test_every_certificate_has_a_key_of_its_own() -> None:
    authority = Authority("cluster.local", NOW)
    first, second = (authority.issue(ID, NOW, HOUR) for _ in range(2))
    keys = [load_pem_private_key(one.key.encode(), None) for one in (first, second)]
    chains = [x509.load_pem_x509_certificate(one.chain.encode()) for one in (first, second)]
    for key, chain in zip(keys, chains, strict=True):
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.public_key() == chain.public_key()
    assert chains[0].public_key() != chains[1].public_key()
    assert chains[0].serial_number != chains[1].serial_number


@pytest.mark.parametrize(
    ("after", "due"),
    [
        (timedelta(minutes=29), False),
        (timedelta(minutes=30), True),
        (timedelta(days=3), True),  # the machine has slept
        (timedelta(minutes=-1), False),
        (timedelta(minutes=-2), True),
        (timedelta(hours=-5), True),  # the clock was wrong before
    ],
)
def test_when_another_one_is_due(after: timedelta, due: bool) -> None:
    assert is_due(NOW, NOW + after, HOUR) is due


SPIFFE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"


@needs_envoy
@pytest.mark.parametrize("usage", [True, False])
def test_envoys_own_validation_of_svids_takes_it_for_its_key_usage(
    usage: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Istio asks for that validation where there are several trust domains."""
    authority = Authority("cluster.local", datetime.now(UTC))
    bundle = {"name": "cluster.local", "trust_bundle": {"inline_string": authority.roots}}
    validator = {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {"@type": SPIFFE, "trust_domains": [bundle]},
    }

    def validating(world: World) -> Json:
        made: dict[str, Any] = transport_socket(world)
        context = made["typed_config"]["common_tls_context"]
        del context["combined_validation_context"]
        context["validation_context"] = {"custom_validator_config": validator}
        return made

    monkeypatch.setattr(mtls, "transport_socket", validating)
    monkeypatch.setattr(up, "Authority", lambda *_: authority)
    if not usage:
        add = x509.CertificateBuilder.add_extension
        monkeypatch.setattr(
            x509.CertificateBuilder,
            "add_extension",
            lambda self, one, critical: self if isinstance(one, x509.KeyUsage) else add(self, one, critical),
        )
    with running(folder(tmp_path / "istio", all=joined(SERVICE, STRICT, CALLER, copy("one", "v1", 8101)))) as mesh:
        assert (mesh.call(DIGITS).status is grpc.StatusCode.OK) is usage
