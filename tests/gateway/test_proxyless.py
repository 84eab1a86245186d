"""Mode xds before any call: what its models may ask for, and where gRPC finds its control plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.admin import shown
from gateway.errors import StartError
from gateway.server import serving
from gateway.settings import Settings, SettingsError, load
from tests.gateway.tokens import Issuer
from tests.gateway.xds_world import settings

SERVERS = json.dumps({"xds_servers": [{"server_uri": "127.0.0.1:1"}]})


def loaded(folder: Path, **model: Any) -> Settings:
    return load(settings(folder, Issuer(), **model), {})


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ({"retries": {"per_try": "2s"}}, "models.0.retries.per_try"),
        ({"retries": {"on": ["unavailable", "reset"]}}, "models.0.retries.on.1"),
        ({"retries": {"on": ["connect-failure"]}}, "models.0.retries.on.0"),
        ({"retries": {"on": ["refused-stream"]}}, "models.0.retries.on.0"),
        ({"retries": {"budget": "20%"}}, "models.0.retries.budget"),
        ({"breaker": {"pending": 64}}, "models.0.breaker.pending"),
        ({"ejection": {}}, "models.0.ejection"),
        ({"ejection": {"errors": 3}}, "models.0.ejection"),
        ({"shadow": {"version": "2"}}, "models.0.shadow"),
        ({"host": "digits.models:8001"}, "models.0.host"),
        ({"host": "digits.models.svc:8001"}, "models.0.host"),
        ({"host": "digits:8001"}, "models.0.host"),
    ],
)
def test_what_grpc_cannot_do_is_a_mistake(tmp_path: Path, model: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, **model)
    (mistake,) = str(caught.value).splitlines()
    assert f" {place}: " in mistake
    assert "gRPC's xDS client" in mistake
    other = settings(tmp_path, Issuer(), **model)
    load(other, {"HEADRACE_UPSTREAM": "{mode: mesh}"})  # the mesh's sidecar can


def test_what_is_not_written_is_not_there(tmp_path: Path) -> None:
    (model,) = loaded(tmp_path).models
    assert model.retries.on == ("unavailable",)
    assert (model.retries.attempts, model.retries.budget) == (2, None)
    assert (model.breaker.requests, model.breaker.pending) == (1024, None)
    assert model.ejection is None
    assert '"ejection": null' in shown(loaded(tmp_path))


def test_what_is_written_and_can_be_done_stays(tmp_path: Path) -> None:
    retries = {"attempts": 3, "on": ["resource-exhausted", "cancelled"], "budget": None}
    breaker = {"requests": 7, "pending": None}
    (model,) = loaded(tmp_path, retries=retries, breaker=breaker, ejection=None, sequence=False, timeout="2s").models
    assert model.retries.model_dump() == {
        "attempts": 3,
        "per_try": None,
        "on": ("resource-exhausted", "cancelled"),
        "budget": None,
    }
    assert (model.breaker.requests, model.breaker.pending, model.timeout) == (7, None, 2.0)


def test_no_retries_are_no_retries(tmp_path: Path) -> None:
    (model,) = loaded(tmp_path, retries={"on": []}).models
    assert model.retries.on == ()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "upstream.mode xds needs gRPC's bootstrap: its file in GRPC_XDS_BOOTSTRAP, or its text in GRPC_XDS_B"),
        ({"GRPC_XDS_BOOTSTRAP": "/nowhere/b.json"}, "GRPC_XDS_BOOTSTRAP: /nowhere/b.json cannot be read: No such file"),
        ({"GRPC_XDS_BOOTSTRAP": "", "GRPC_XDS_BOOTSTRAP_CONFIG": SERVERS}, "GRPC_XDS_BOOTSTRAP:"),
        ({"GRPC_XDS_BOOTSTRAP_CONFIG": "{"}, "GRPC_XDS_BOOTSTRAP_CONFIG: gRPC's bootstrap is no JSON"),
        ({"GRPC_XDS_BOOTSTRAP_CONFIG": "[]"}, "names no xds_servers"),
        ({"GRPC_XDS_BOOTSTRAP_CONFIG": "{}"}, "names no xds_servers"),
        ({"GRPC_XDS_BOOTSTRAP_CONFIG": '{"xds_servers": []}'}, "names no xds_servers"),
        ({"GRPC_XDS_BOOTSTRAP_CONFIG": '{"xds_servers": "127.0.0.1:1"}'}, "names no xds_servers"),
    ],
)
async def test_a_bootstrap_that_is_of_no_use(tmp_path: Path, environ: dict[str, str], words: str) -> None:
    with pytest.raises(StartError) as caught:
        await serving(loaded(tmp_path), environ=environ).__aenter__()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_bootstrap_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_bytes(b"\xff")
    with pytest.raises(StartError, match="is no JSON"):
        await serving(loaded(tmp_path), environ={"GRPC_XDS_BOOTSTRAP": str(file)}).__aenter__()
    file.write_text(SERVERS)
    async with serving(loaded(tmp_path), environ={"GRPC_XDS_BOOTSTRAP": str(file)}) as addresses:
        assert addresses.grpc
    async with serving(loaded(tmp_path), environ={"GRPC_XDS_BOOTSTRAP_CONFIG": SERVERS}) as addresses:
        assert addresses.grpc


async def test_other_modes_need_no_bootstrap(tmp_path: Path) -> None:
    config = load(settings(tmp_path, Issuer()), {"HEADRACE_UPSTREAM": "{mode: mesh}"})
    async with serving(config, environ={}) as addresses:
        assert addresses.grpc
