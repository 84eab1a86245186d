"""Texts without the secrets in them. Law: what looks like a secret is not written down, whoever put it there.

Unreadable become: JSON Web Tokens (RFC 7519), whole or cut short; what stands after `Bearer` (RFC 6750), `Basic` (RFC
7617) and `authorization`, and after names like `password` and `client_secret`; private keys (PEM, RFC 7468); of URLs
the user and password, the query and the fragment (RFC 3986). The rest stays as it is. Time grows with the text and no
faster.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final

GONE: Final = "[redacted]"

# Nearly every text has none of these, and is done with.
_SUSPECT: Final = re.compile(
    r"e[wy][A-Za-z0-9_-]{8}|://|private key|bearer|basic\s|authorization|cookie|passw|secret|_token|api[-_]?key",
    re.IGNORECASE,
)
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL | re.IGNORECASE,
)
# Base64url of `{"`; or of `{` and white space, where the two dots of a token follow.
_JWT: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"
    r"|(?<![A-Za-z0-9_-])e(?:yA|yB|w[o0k])[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
)
_STRING: Final = r""""(?:[^"\\]|\\.)*(?:"|\Z)|'(?:[^'\\]|\\.)*(?:'|\Z)"""
_QUOTED: Final = rf"""b?(?:{_STRING})|\\+["'][^"'\\]*(?:\\+["'])?"""
_ITEM: Final = rf"""(?:{_STRING}|[^\]\["'])"""
_LISTED: Final = rf"\[(?:{_ITEM}|\[(?:{_ITEM}|\[)*(?:\]|\Z))*(?:\]|\Z)"  # a list in it, too
_BARE: Final = r"""[^\s"',;)}]+"""
_NAME: Final = (
    r"(?:proxy-)?authorization|(?:set-)?cookie|passw(?:or)?d|(?:client[-_])?secret"
    r"|(?:access|refresh|id|auth|session)_token|(?:x-)?api[-_]?key"
)
# As in a header, a mapping, a form, or the pairs of gRPC's metadata.
_NAMED: Final = re.compile(
    rf"""((?:{_NAME})\\*["']?\s*[:=,]\s*(?:value\s*=\s*)?)(?:{_LISTED}(?:{_BARE})?|{_QUOTED}|(?:(?:bearer|basic|digest|negotiate)\s+)?{_BARE})""",
    re.IGNORECASE | re.DOTALL,
)
# Our own advice has the word TOKEN there.
_BEARER: Final = re.compile(rf"(\bbearer\s+)(?!tokens?(?:[\s,;:)]|\.?\Z|\.\s)){_BARE}", re.IGNORECASE)
_BASIC: Final = re.compile(r"""(\bbasic\s+["']?)([A-Za-z0-9+/_-]{4,})=*""", re.IGNORECASE)
_URL: Final = re.compile(r"""(://)([^\s/?#"'<>]*@)?([^\s?#"'<>]*)([?#][^\s"'<>]*)?""")


def _url(found: re.Match[str]) -> str:
    begin, user, rest, query = found.groups()
    return begin + (f"{GONE}@" if user else "") + rest + (f"{query[0]}{GONE}" if query and query[1:] else query or "")


def _basic(found: re.Match[str]) -> str:
    """Of a user and a password, between which is a colon; after the word `basic` may stand anything."""
    begin, word = found.groups()
    whole = word[: len(word) // 4 * 4].replace("-", "+").replace("_", "/")
    return begin + GONE if b":" in base64.b64decode(whole) else found[0]


_STEPS: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (_PEM, "[redacted private key]"),
    (_JWT, GONE),
    (_NAMED, rf"\g<1>{GONE}"),
    (_BEARER, rf"\g<1>{GONE}"),
    (_BASIC, _basic),
    (_URL, _url),
)


def redacted(text: str) -> str:
    """The text, with `[redacted]` in the place of each secret; the same when it is done once more."""
    if _SUSPECT.search(text) is None:
        return text
    for pattern, instead in _STEPS:
        text = pattern.sub(instead, text)
    return text
