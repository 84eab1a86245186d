"""Where the Envoy in front may send calls, and how many it may try again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings, load
from headrace.express_clusters import clusters
from tests.gateway import world as worlds
from tests.gateway.tokens import Issuer


def settings(tmp_path: Path, *budgets: str | None, **sections: Any) -> Settings:
    """Models of one copy, each with a budget for its retries."""
    models = [
        {"name": f"m{at}", "host": "w.svc:8001", "versions": {"1": {}}, "retries": {"budget": budget}}
        for at, budget in enumerate(budgets)
    ]
    upstream = {"endpoints": {f"m{at}": {"1": "127.0.0.1:1"} for at in range(len(budgets))}}
    return load(
        worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), **{"models": models, "upstream": upstream} | sections), {}
    )


@pytest.mark.parametrize(
    ("budgets", "bound"),
    [
        (["20%"], {"retry_budget": {"budget_percent": {"value": 20.0}}}),
        (["20%", "50%", "10%"], {"retry_budget": {"budget_percent": {"value": 50.0}}}),
        (["20%", None], {"max_retries": 2**32 - 1}),
    ],
)
def test_models_that_share_copies_share_a_budget(
    budgets: list[str | None], bound: dict[str, Any], tmp_path: Path
) -> None:
    (cluster,) = clusters(settings(tmp_path, *budgets))
    (threshold,) = cluster["circuit_breakers"]["thresholds"]  # type: ignore[index]  # JSON
    assert {name: value for name, value in threshold.items() if "retr" in name} == bound


def test_of_several_settings_every_cluster_is_there_once(tmp_path: Path) -> None:
    one = settings(tmp_path, "20%")
    other = settings(tmp_path, "20%", upstream={"endpoints": {"m0": {"1": "127.0.0.1:2"}}})
    assert [cluster["name"] for cluster in clusters(one, other, one)] == ["127.0.0.1:1", "127.0.0.1:2"]
