"""xDS messages: what JSON they take, and that they keep to themselves."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pool

from mesh.ads.messages import URL, decode, encode
from mesh.ads.stream import TYPES

LISTENER = "envoy.config.listener.v3.Listener"
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ANY = f"{URL}{MANAGER}"


def test_json_comes_back_as_it_went() -> None:
    manager = {"@type": ANY, "rds": {"config_source": {"ads": {}}, "route_config_name": "r"}}
    listener: dict[str, Any] = {"name": "a:1", "api_listener": {"api_listener": manager}}
    assert decode(LISTENER, encode(LISTENER, listener)) == listener


@pytest.mark.parametrize(
    "wrong",
    [
        {"nam": "a"},
        {"name": 1},
        {"name": "a", "api_listener": {"api_listener": {"@type": ANY, "no_such_field": 1}}},
        {"name": "a", "api_listener": {"api_listener": {"@type": f"{URL}no.such.Message"}}},
    ],
)
def test_what_xds_has_not_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"no {LISTENER}"):
        encode(LISTENER, wrong)


def test_the_messages_are_not_registered_for_others() -> None:
    """Whoever brings the same messages (xds-protos) can do so in this very process."""
    for name in TYPES:
        encode(name, {})
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName(name)
