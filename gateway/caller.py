"""Who calls. Law: a `Caller` is made by `gateway.verify` from a verified token, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote


@dataclass(frozen=True, eq=False)
class Caller:
    """The subject of a verified token; compared and hashed by identity, so that what is known of one can be kept.

    `claims` is the whole payload; `expires_at` is `exp` in seconds since the epoch.
    """

    issuer: str
    subject: str
    claims: Mapping[str, object]
    expires_at: float

    @cached_property
    def name(self) -> str:
        """`SUBJECT@ISSUER` in visible ASCII, for `x-caller`, traces and logs; the subject's own `@` is quoted."""
        return f"{quote(self.subject, safe='', errors='surrogatepass')}@{quote(self.issuer, safe=':/')}"
