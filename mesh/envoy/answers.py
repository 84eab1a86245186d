"""Answers that a sidecar gives itself. Law: a redirect's code is one that Envoy can answer with.

Source: Istio's ApplyRedirect and ApplyDirectResponse.
"""

from __future__ import annotations

from typing import Final

from mesh.envoy.proto import Json, message
from mesh.istio.http_route import HTTPDirectResponse, HTTPRedirect, RedirectPortSelection

REDIRECT_CODES: Final[dict[int, str | None]] = {
    0: None,
    301: None,
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
"""Code -> Envoy's name of it; None is proto's default, MOVED_PERMANENTLY."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def direct_response(response: HTTPDirectResponse) -> Json:
    """envoy.config.route.v3.DirectResponseAction."""
    body = response.body.string if response.body else ""
    return message(status=response.status, body={"inline_string": body} if body else None)


def redirect(to: HTTPRedirect, port: int) -> Json:
    """envoy.config.route.v3.RedirectAction for calls that came for `port`."""
    path: Json = {"prefix_rewrite": to.prefix_rewrite} if to.prefix_rewrite else {"path_redirect": to.uri}
    return message(
        host_redirect=to.authority or None,
        **path,
        scheme_redirect=to.scheme or None,
        port_redirect=_port(to, port),
        response_code=REDIRECT_CODES[to.redirect_code],
    )


def _port(to: HTTPRedirect, port: int) -> int | None:
    """The port to go to; None where it is the scheme's own, or the redirect does not say."""
    chosen = port if to.derive_port is RedirectPortSelection.FROM_REQUEST_PORT else to.port
    return None if chosen == _DEFAULT_PORTS[to.scheme or "http"] else chosen
