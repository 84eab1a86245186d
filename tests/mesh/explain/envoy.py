"""A real Envoy with tables of routes, which may answer with the name of the route that a call got."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.envoy import ENVOY

_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
_MANAGER = f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {"name": "router", "typed_config": {"@type": f"{_EXTENSIONS}.http.router.v3.Router"}}
_CHOSEN = "x-chosen"

Headers = Sequence[tuple[str, str]]


def named(table: Mapping[str, Any]) -> dict[str, Any]:
    """A RouteConfiguration whose routes answer with their virtual host's name and their place in it."""
    hosts = [
        {
            "name": host["name"],
            "domains": host["domains"],
            "routes": [
                {
                    "match": route["match"],
                    "direct_response": {"status": 200},
                    "response_headers_to_add": [{"header": {"key": _CHOSEN, "value": f"{host['name']}#{index}"}}],
                }
                for index, route in enumerate(host["routes"])
            ],
        }
        for host in table["virtual_hosts"]
    ]
    return {"virtual_hosts": hosts, "ignore_port_in_host_matching": table["ignore_port_in_host_matching"]}


class Envoy:
    """One connection for each table. Calls are in HTTP/1.1, in which anything can be said."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for port in ports]

    def chosen(self, table: int, authority: str, path: str, headers: Headers = (), method: str = "POST") -> str:
        """`HOST#PLACE` of the route of a call to a `named` table; empty: none, which is 404."""
        status, said = self.answer(table, authority, path, headers, method)
        assert status in (200, 404), status
        return said.get(_CHOSEN, "") if status == 200 else ""

    def answer(
        self, table: int, authority: str, path: str, headers: Headers = (), method: str = "POST"
    ) -> tuple[int, Mapping[str, str]]:
        """Status and headers of the answer to a call."""
        connection = self._connections[table]
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in (("host", authority), *headers):
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status, dict(answer.headers)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


@contextlib.contextmanager
def envoy(folder: Path, tables: Sequence[Mapping[str, Any]]) -> Iterator[Envoy]:
    """An Envoy with a listener for each RouteConfiguration."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    listeners = [_listener(str(index), table, address) for index, table in enumerate(tables)]
    bootstrap = {"admin": {"address": address}, "static_resources": {"listeners": listeners}}
    (folder / "envoy.json").write_text(json.dumps(bootstrap))
    command = [str(ENVOY), "-c", "envoy.json", "-l", "error", "--use-dynamic-base-id", "--concurrency", "1"]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([*command, "--admin-address-path", "admin"], cwd=folder, stdout=log, stderr=log)
    try:
        ports = _ports(child, folder / "admin", folder / "log")
        with contextlib.closing(Envoy([ports[one["name"]] for one in listeners])) as started:
            yield started
    finally:
        child.terminate()
        child.wait(30)


def _listener(name: str, table: Mapping[str, Any], address: Mapping[str, Any]) -> dict[str, Any]:
    manager = {"@type": _MANAGER, "stat_prefix": "x", "route_config": table, "http_filters": [_ROUTER]}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": name, "address": address, "filter_chains": [chain]}


def _ports(child: subprocess.Popen[bytes], admin: Path, log: Path) -> Mapping[str, int]:
    """Where each listener listens, once they do."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert child.poll() is None, log.read_text()
        with contextlib.suppress(OSError, ValueError, LookupError, http.client.HTTPException):
            asked = http.client.HTTPConnection(admin.read_text(), timeout=5)
            with contextlib.closing(asked):
                asked.request("GET", "/listeners?format=json")
                found = json.loads(asked.getresponse().read())["listener_statuses"]
                return {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in found}
        time.sleep(0.02)
    raise AssertionError(log.read_text())
