"""What a route means to its calls. Law: what is not there is said, too, where a caller would wonder.

Read from an envoy.config.route.v3.Route. HTTP statuses that Envoy itself answers with are said as gRPC reads them:
https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mesh.envoy.faults import FAULT_FILTER
from mesh.envoy.proto import Json
from mesh.envoy.reading import number, part, parts, text
from mesh.explain.words import Fact, duration, listed, share
from mesh.istio.fault import GRPC_STATUSES

_NO_END: Final = "0s"
_BY_CODES: Final = "retriable-status-codes"
_STATUSES: Final = {
    400: "INTERNAL",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    429: "UNAVAILABLE",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
_NAMES: Final = {number: name for name, number in GRPC_STATUSES.items()}


def facts(route: Json) -> Iterator[Fact]:
    """What becomes of a call, apart from where it goes."""
    if "direct_response" in route:
        yield _answer(part(route, "direct_response"))
    elif "redirect" in route:
        yield Fact("answer", "a redirect, which no gRPC client follows: it reads UNKNOWN")
    else:
        yield from _forwarding(part(route, "route"))
    yield from edits(route)
    yield from _faults(part(route, "typed_per_filter_config", FAULT_FILTER))


def edits(message: Json) -> Iterator[Fact]:
    """The edits of headers of a Route, or of a weighted cluster."""
    for about, side in (("request", "what the worker gets"), ("response", "what the caller gets")):
        changed = [_edit(one) for one in parts(message, f"{about}_headers_to_add")]
        removed = message.get(f"{about}_headers_to_remove")
        gone = [f"without {name}" for name in removed] if isinstance(removed, list) else []
        if changed or gone:
            yield Fact("headers", f"{side}: {', '.join([*changed, *gone])}")
    if rewritten := text(message, "host_rewrite_literal"):
        yield Fact("authority", f"the worker reads {rewritten}")


def _edit(edit: Json) -> str:
    header = part(edit, "header")
    how = "=" if text(edit, "append_action") == "OVERWRITE_IF_EXISTS_OR_ADD" else "+="
    return f"{text(header, 'key')}{how}{text(header, 'value')}"


def status(code: int) -> str:
    """What gRPC makes of an HTTP status without a gRPC one."""
    return _STATUSES.get(code, "UNKNOWN")


def _answer(response: Json) -> Fact:
    code = int(number(response, "status"))
    said = text(part(response, "body"), "inline_string")
    return Fact(
        "answer", f"no worker is asked: the sidecar answers {code}, {status(code)}{f': {said}' if said else ''}"
    )


def _forwarding(action: Json) -> Iterator[Fact]:
    yield Fact("timeout", _timeout(text(action, "max_grpc_timeout") or _NO_END))
    yield Fact("retries", _retries(part(action, "retry_policy")) if "retry_policy" in action else "none")
    for policy in parts(action, "hash_policy"):
        yield Fact("sticky", f"calls with the same {_key(policy)} go to the same copy")
    for mirror in parts(action, "request_mirror_policies"):
        _, _, subset, host = text(mirror, "cluster").split("|")
        part_of = share(part(mirror, "runtime_fraction", "default_value"))
        yield Fact("mirror", f"{part_of} of the calls go to {subset or host} as well; what it answers reaches no one")
    if prefix := text(action, "prefix_rewrite"):
        yield Fact("path", f"what matched becomes {prefix}")
    if regex := part(action, "regex_rewrite"):
        yield Fact("path", f"{text(part(regex, 'pattern'), 'regex')} becomes {text(regex, 'substitution')}")
    if rewritten := text(action, "host_rewrite_literal"):
        yield Fact("authority", f"the worker reads {rewritten}")


def _timeout(limit: str) -> str:
    if limit == _NO_END:
        return "none but the caller's own deadline"
    return f"{duration(limit)} for the call with its retries, or the caller's own deadline where that is sooner"


def _retries(policy: Json) -> str:
    codes = policy.get("retriable_status_codes")
    on = [one for one in text(policy, "retry_on").split(",") if one not in ("", _BY_CODES)]
    on += [f"HTTP {code}" for code in codes] if isinstance(codes, list) else []
    elsewhere = parts(policy, "retry_host_predicate")
    where = "each at a copy that the call was not at" if elsewhere else "at the same copy, too"
    per_try = text(policy, "per_try_timeout")
    most = f"a try may take {duration(per_try) if per_try else 'all the time'}"
    return f"up to {number(policy, 'num_retries'):g} after {listed(on) if on else 'nothing'}, {where}; {most}"


def _key(policy: Json) -> str:
    if header := part(policy, "header"):
        return f"header {text(header, 'header_name')}"
    if cookie := part(policy, "cookie"):
        return f"cookie {text(cookie, 'name')}"
    parameter = part(policy, "query_parameter")
    return f"query parameter {text(parameter, 'name')}" if parameter else "address of the caller"


def _faults(fault: Json) -> Iterator[Fact]:
    if delay := part(fault, "delay"):
        waits = f"{duration(text(delay, 'fixed_delay'))} on purpose"
        yield Fact("fault", f"{share(part(delay, 'percentage'))} of the calls wait {waits}")
    if abort := part(fault, "abort"):
        grpc = abort.get("grpc_status")
        code = int(number(abort, "http_status"))
        said = _NAMES[int(number(abort, "grpc_status"))] if grpc is not None else f"HTTP {code}, {status(code)}"
        yield Fact("fault", f"{share(part(abort, 'percentage'))} of the calls are answered {said} on purpose")
