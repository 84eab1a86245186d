"""The certificate authority of one mesh. Law: a certificate names one workload, and is short-lived.

Form: the X.509-SVID of https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md. Envoy's SPIFFE validation
asks for keyUsage in leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.envoy.proto import ROOT_CERTIFICATES, WORKLOAD_CERTIFICATE, Json

_ROOT_LIFETIME: Final = timedelta(days=365)
_ROOT_SKEW: Final = timedelta(days=1)  # before now, for a clock that is set back
_SKEW: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Certificate:
    """A workload's certificate and its private key, in PEM."""

    chain: str
    key: str

    @property
    def secret(self) -> Json:
        """envoy.extensions.transport_sockets.tls.v3.Secret: both in one file, so that they always fit together."""
        return {
            "name": WORKLOAD_CERTIFICATE,
            "tls_certificate": {
                "certificate_chain": {"inline_string": self.chain},
                "private_key": {"inline_string": self.key},
            },
        }


def is_due(issued: datetime, now: datetime, lifetime: timedelta) -> bool:
    """Whether a certificate should be replaced: half of its time is over, or, by a clock set back, has yet to begin."""
    return now < issued - _SKEW or now - issued >= lifetime / 2


class Authority:
    """A new authority; its key never leaves this process. `now` is the time, with its zone."""

    def __init__(self, trust_domain: str, now: datetime) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
        usage = _usage(key_cert_sign=True)
        root = _builder(self._name, self._name, self._key, (now - _ROOT_SKEW, now + _ROOT_LIFETIME))
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        root = root.add_extension(usage, critical=True)
        root = root.add_extension(x509.SubjectAlternativeName([_uri(f"spiffe://{trust_domain}")]), critical=False)
        self.roots = root.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    @property
    def secret(self) -> Json:
        """envoy.extensions.transport_sockets.tls.v3.Secret: the roots by which peers are verified."""
        return {"name": ROOT_CERTIFICATES, "validation_context": {"trusted_ca": {"inline_string": self.roots}}}

    def issue(self, spiffe_id: str, now: datetime, lifetime: timedelta) -> Certificate:
        """A certificate for a workload, good from a minute ago until `lifetime` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _builder(x509.Name([]), self._name, key, (now - _SKEW, now + lifetime))
        leaf = leaf.add_extension(x509.SubjectAlternativeName([_uri(spiffe_id)]), critical=True)
        leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        leaf = leaf.add_extension(_usage(digital_signature=True), critical=True)
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        leaf = leaf.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        chain = leaf.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Certificate(chain.decode(), pem.decode())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, good: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(good[0]).not_valid_after(good[1])


def _uri(value: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(value)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
