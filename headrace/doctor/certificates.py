"""Certificates of the public address. Law: each one of a file counts, for callers are shown them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from gateway.settings import Tls
from headrace.doctor.finding import Finding

_AREA: Final = "certificates"
_SOON: Final = timedelta(days=14)


def certificates(tls: Tls, clock: Callable[[], float]) -> Iterator[Finding]:
    """Whether they are good now, and for how long; `clock` tells seconds since the epoch."""
    now = datetime.fromtimestamp(clock(), UTC)
    for path in filter(None, (tls.certificate, tls.client_ca)):
        for certificate in x509.load_pem_x509_certificates(path.read_bytes()):
            yield _finding(path, certificate, now)


def _finding(path: Path, certificate: x509.Certificate, now: datetime) -> Finding:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    what = f"{path} ({certificate.subject.rfc4514_string()})"
    do = "put a new one there, and start the gateway anew"
    if now >= end:
        return Finding(_AREA, "error", f"{what} has expired, {end:%Y-%m-%d %H:%M} UTC", do)
    if now < begin:
        clock = "see whether this machine's clock is right, or wait"
        return Finding(_AREA, "error", f"{what} is good only from {begin:%Y-%m-%d %H:%M} UTC on", clock)
    if end - now < _SOON:
        return Finding(_AREA, "warning", f"{what} expires soon, {end:%Y-%m-%d %H:%M} UTC", do)
    return Finding(_AREA, "ok", f"{what} is good until {end:%Y-%m-%d}")
