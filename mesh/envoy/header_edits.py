"""Edits of headers. Law: set before add, each sorted by name; the authority is rewritten by the route, not edited.

Source: Istio's TranslateHeadersOperations.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.envoy.proto import Json, message
from mesh.istio.headers import HeaderOperations, Headers, is_authority


def header_edits(*headers: Headers) -> Json:
    """The four fields of a Route or of a weighted cluster; edits of several Headers come one after the other."""
    return message(
        request_headers_to_add=[edit for one in headers for edit in _added(one.request)] or None,
        request_headers_to_remove=[name for one in headers for name in _removed(one.request)] or None,
        response_headers_to_add=[edit for one in headers for edit in _added(one.response)] or None,
        response_headers_to_remove=[name for one in headers for name in _removed(one.response)] or None,
    )


def authority(headers: Headers) -> str:
    """What a request's authority becomes, empty: it stays. `set` wins over `add`."""
    for pairs in (headers.request.set, headers.request.add):
        found = [value for name, value in pairs.items() if is_authority(name)]
        if found and found[-1]:
            return found[-1]
    return ""


def _added(operations: HeaderOperations) -> list[Json]:
    return [
        *_edits(operations.set, append_action="OVERWRITE_IF_EXISTS_OR_ADD"),
        *_edits(operations.add, append_action=None),  # proto's default: APPEND_IF_EXISTS_OR_ADD
    ]


def _edits(pairs: Mapping[str, str], append_action: str | None) -> list[Json]:
    return [
        message(header=message(key=name, value=pairs[name] or None), append_action=append_action)
        for name in sorted(pairs)
        if not _internal(name)
    ]


def _removed(operations: HeaderOperations) -> list[str]:
    return [name for name in operations.remove if not _internal(name)]


def _internal(name: str) -> bool:
    """Whether a header is one that Envoy does not edit."""
    return name.startswith(":") or name.lower() == "host"
