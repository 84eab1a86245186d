"""One route of a VirtualService. Law: a route forwards, redirects or answers by itself: exactly one of these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mesh.istio.fault import HTTPFaultInjection, Percent
from mesh.istio.headers import HEADER_NAME, Headers
from mesh.istio.message import Message, Mistake, ProtoEnum, Unimplemented
from mesh.istio.names import DnsLabelOrNone, Host
from mesh.istio.regex import mistake_in_regex
from mesh.istio.selector import GatewayName, PortSelector
from mesh.istio.strings import AbsenceMatch, StringMatch, UriMatch
from mesh.istio.values import Bool, Count, Labels, Port, PositiveDuration, Text, UInt32

RETRY_ON: Final = frozenset({
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure",
    "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
})  # fmt: skip
"""Envoy's conditions for a retry, HTTP's and gRPC's. HTTP status codes may stand beside them."""

_STATUS_CODES: Final = frozenset(map(int, HTTPStatus))
_PSEUDO_HEADERS: Final = frozenset({":method", ":scheme", ":authority", ":path", ":status"})


def _not_all(host: str) -> str:
    if host == "*":
        raise ValueError("* is no destination")
    return host


class Destination(Message):
    """A service, perhaps a subset of its copies. `host` is as written: see `names.qualified`."""

    host: Annotated[Host, AfterValidator(_not_all)]
    subset: DnsLabelOrNone = ""
    port: PortSelector | None = None


class HTTPMatchRequest(Message):
    """What a call must look like; everything that is given must hold. Keys of headers are as written."""

    name: str = ""
    uri: UriMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: Mapping[str, StringMatch] = {}
    without_headers: Mapping[str, AbsenceMatch] = {}
    query_params: Mapping[str, StringMatch] = {}
    ignore_uri_case: Bool = False
    port: UInt32 = 0
    source_labels: Labels = Field(default_factory=dict)
    source_namespace: DnsLabelOrNone = ""
    gateways: tuple[GatewayName, ...] = ()
    stat_prefix: str = ""

    def mistakes(self) -> Iterator[Mistake]:
        """Headers that no call can have, or that only a gateway knows."""
        for field, headers in (("headers", self.headers), ("withoutHeaders", self.without_headers)):
            for name in headers:
                if name.startswith("@request.auth.claims"):
                    yield (field, name), "not implemented: routes by a token's claims are for gateways alone"
                elif name not in _PSEUDO_HEADERS and HEADER_NAME.fullmatch(name) is None:
                    yield (field, name), f"{name!r} is no header's name"
        if self.port > 65535:
            yield ("port",), f"{self.port} is not in 1..65535"


class HTTPRouteDestination(Message):
    """One of the destinations that share a route's calls by weight. `weight` 0 with a single destination is all."""

    destination: Destination
    weight: Count = 0
    headers: Headers = Headers()


class HTTPMirrorPolicy(Message):
    """A destination that gets a copy of calls; without a percentage, of all."""

    destination: Destination
    percentage: Percent | None = None


def _check_retry_on(value: str) -> str:
    for condition in value.split(",") if value else ():
        if condition not in RETRY_ON and not (re.fullmatch(r"[-+]?\d+", condition) and int(condition) in _STATUS_CODES):
            raise ValueError(f"{condition!r} is no condition for a retry")
    return value


class HTTPRetry(Message):
    """When and how often a call is tried again. `attempts` 0 turns retries off."""

    attempts: Count = 0
    per_try_timeout: PositiveDuration | None = None
    retry_on: Annotated[str, AfterValidator(_check_retry_on)] = ""
    retry_remote_localities: Bool | None = None
    retry_ignore_previous_hosts: Bool | None = None
    backoff: PositiveDuration | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """Settings of retries that are off."""
        settings = (self.per_try_timeout, self.retry_on or None, self.retry_remote_localities)
        if self.attempts == 0 and any(setting is not None for setting in settings):
            yield ("attempts",), "is 0: retries are off, and yet they are described"

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions of `retry_on` that are names."""
        return tuple(condition for condition in self.retry_on.split(",") if condition in RETRY_ON)

    @property
    def status_codes(self) -> tuple[int, ...]:
        """The HTTP status codes of `retry_on`."""
        others = (condition for condition in self.retry_on.split(",") if condition and condition not in RETRY_ON)
        return tuple(map(int, others))


class RegexRewrite(Message):
    """A path rewritten by a pattern."""

    match: Text
    rewrite: Text

    def mistakes(self) -> Iterator[Mistake]:
        """A pattern that RE2 would not take."""
        if what := mistake_in_regex(self.match):
            yield ("match",), what


class HTTPRewrite(Message):
    """The path (for a prefix match: its prefix) or the authority that the destination sees."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """Nothing to rewrite, or the path in two ways."""
        if self.uri and self.uri_regex_rewrite:
            yield (), "only one of uri and uriRegexRewrite can be set"
        if not self.uri and not self.authority and not self.uri_regex_rewrite:
            yield (), "rewrites nothing: set uri, uriRegexRewrite or authority"


class RedirectPortSelection(ProtoEnum):
    """Where a redirect's port comes from."""

    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


class HTTPRedirect(Message):
    """An answer that sends the caller elsewhere. `redirect_code` 0 means 301."""

    oneofs = (("port", "derive_port"),)

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    scheme: Literal["", "http", "https"] = ""
    port: Port | None = None
    derive_port: RedirectPortSelection | None = None
    redirect_code: UInt32 = 0

    def mistakes(self) -> Iterator[Mistake]:
        """A redirect to nowhere, or with a code that is none."""
        if self.uri and self.prefix_rewrite:
            yield (), "only one of uri and prefixRewrite can be set"
        port = self.port is not None or self.derive_port is not None
        if not (self.uri or self.prefix_rewrite or self.authority or self.scheme or port):
            yield (), "leads nowhere: set uri, prefixRewrite, authority, scheme or port"
        if self.redirect_code and not 300 <= self.redirect_code <= 399:
            yield ("redirectCode",), f"{self.redirect_code} is not in 300..399"


class HTTPBody(Message):
    """What a direct response says."""

    string: Annotated[str, Field(max_length=2**20)] = ""
    bytes: Unimplemented = None


class HTTPDirectResponse(Message):
    """An answer that the sidecar gives itself."""

    status: Annotated[UInt32, Field(ge=200, le=600)]
    body: HTTPBody | None = None


class HTTPRoute(Message):
    """One route. `match` holds alternatives; none at all means every call. `timeout` None or 0 is without end."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    rewrite: HTTPRewrite | None = None
    timeout: PositiveDuration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: Annotated[UInt32, Field(le=100)] | None = None
    mirror_percentage: Percent | None = None
    headers: Headers = Headers()
    delegate: Unimplemented = None
    cors_policy: Unimplemented = None

    def mistakes(self) -> Iterator[Mistake]:
        """What a route does must be one thing, and fit together."""
        yield from self._mistakes_in_action()
        if self.mirror and self.mirrors:
            yield ("mirrors",), "only one of mirror and mirrors can be set"
        if len(self.route) > 1 and not sum(destination.weight for destination in self.route):
            yield ("route",), "the weights add up to 0"
        authorities = (*((self.rewrite.authority,) if self.rewrite and self.rewrite.authority else ()),
                       *self.headers.authorities)  # fmt: skip
        if len(authorities) > 1:
            yield ("headers", "request"), f"the authority is set {len(authorities)} times"
        if self.redirect and self.redirect.prefix_rewrite:
            for index, match in enumerate(self.match):
                if match.uri and match.uri.prefix is None:
                    yield ("match", index, "uri"), "must be a prefix, for redirect.prefixRewrite"

    def _mistakes_in_action(self) -> Iterator[Mistake]:
        by_itself = "redirect" if self.redirect else "directResponse" if self.direct_response else None
        if by_itself is None:
            if not self.route:
                yield ("route",), "is missing: a route needs route, redirect or directResponse"
            return
        others: dict[str, object] = {"route": self.route, "fault": self.fault, "rewrite": self.rewrite}
        if self.redirect:
            others["directResponse"] = self.direct_response
        for field, value in others.items():
            if value:
                yield (field,), f"cannot stand beside {by_itself}"
