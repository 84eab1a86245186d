from __future__ import annotations

from pathlib import Path

from gateway import settings
from headrace.demo.config import gateway_yaml


def test_the_gateway_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "headrace.yaml"
    workers = {"1": "127.0.0.1:8101", "2": "127.0.0.1:8102"}
    file.write_text(gateway_yaml("http://127.0.0.1:8000", workers, "http://127.0.0.1:4317"))
    loaded = settings.load(file, {})
    assert loaded.catalog["digits"].weights == (("1", 90), ("2", 10))
    assert loaded.catalog["digits"].aliases == {"stable": "1", "canary": "2"}
    assert loaded.listen.address.endswith(":0")
    assert (loaded.listen.notice, loaded.listen.drain) == (0.05, 2.0)
