from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.settings import load
from headrace import cli
from headrace.demo.config import CANARY_SHARE, gateway_yaml
from headrace.demo.digits import MODEL

WORKERS = {"1": ["127.0.0.1:8101", "127.0.0.1:8103"], "2": ["127.0.0.1:8102"]}


@pytest.mark.parametrize(("mesh", "proxy"), [(False, None), (True, None), (True, "127.0.0.1:15001")])
def test_the_gateway_takes_it(tmp_path: Path, mesh: bool, proxy: str | None) -> None:
    config = tmp_path / "headrace.yaml"
    config.write_text(gateway_yaml("http://127.0.0.1:1", WORKERS, "http://127.0.0.1:2", mesh=mesh, proxy=proxy))
    settings = load(config, {})
    assert settings.catalog[MODEL].weights == (("1", 100 - CANARY_SHARE), ("2", CANARY_SHARE))
    assert settings.upstream.endpoints[MODEL] == {version: tuple(copies) for version, copies in WORKERS.items()}
    assert (settings.upstream.mode, settings.upstream.proxy) == ("mesh" if mesh else "direct", proxy)


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config", "schema"]) == 0
    assert "listen" in json.loads(capsys.readouterr().out)["properties"]
