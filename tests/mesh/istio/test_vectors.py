"""Istio's cases: what it takes is read, what it refuses is refused by field, and no unknown key gets past."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.istio.document import Document, RefusedError, read_documents
from mesh.istio.load import load_case
from mesh.istio.resource import read_resource
from mesh.istio.service_entry import ServiceEntry
from mesh.istio.virtual_service import VirtualService

VECTORS = Path(__file__).parent.parent / "vectors" / "istio"
CASES = sorted(path for path in (VECTORS / "cases").iterdir() if path.is_dir())
REFUSED = {
    "bad-authz-action": ["AuthorizationPolicy models/p: spec.action: "],
    "bad-authz-empty-from": ["AuthorizationPolicy models/p: spec.rules[0].from[0].source: "],
    "bad-duplicate-subset": ["DestinationRule models/digits: spec.subsets[1].name: "],
    "bad-jwt-no-issuer": ["RequestAuthentication models/p: spec.jwtRules[0].issuer: "],
    "bad-lb": ["DestinationRule models/digits: spec.trafficPolicy.loadBalancer.simple: "],
    "bad-maglev-size": [
        "DestinationRule models/digits: spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: "
    ],
    "bad-mtls-mode": ["PeerAuthentication models/p: spec.mtls.mode: "],
    "bad-no-route": ["VirtualService models/digits: spec.http[0].route: "],
    "bad-outlier": [
        "DestinationRule models/digits: spec.trafficPolicy.outlierDetection.interval: ",
        "DestinationRule models/digits: spec.trafficPolicy.outlierDetection.maxEjectionPercent: ",
    ],
    "bad-per-try": ["VirtualService models/digits: spec.http[0].retries.perTryTimeout: "],
    "bad-percentage": ["VirtualService models/digits: spec.http[0].fault.abort.percentage.value: "],
    "bad-retry-on": ["VirtualService models/digits: spec.http[0].retries.retryOn: "],
    "bad-timeout": ["VirtualService models/digits: spec.http[0].timeout: "],
    "bad-unknown-field": ["VirtualService models/digits: spec.http[0].retriez: "],
    "bad-weights": ["VirtualService models/digits: spec.http[0].route[0].weight: "],
}
MAPS = {"labels", "matchLabels", "annotations", "headers", "withoutHeaders", "sourceLabels", "set", "add", "ports"}


def test_all_are_there() -> None:
    assert len(CASES) == 46
    assert {path.name for path in (VECTORS / "refused").iterdir()} == REFUSED.keys()


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_case_is_read(case: Path) -> None:
    world, proxies = load_case(case)
    assert [proxy.name for proxy in proxies] == ["gateway", "worker"]
    assert len(world.of(ServiceEntry)) == 2
    if case.name.startswith("vs-") and case.name != "vs-none":
        assert len(world.of(VirtualService)) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_istio_refuses(name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        load_case(VECTORS / "refused" / name)
    file = VECTORS / "refused" / name / "config.yaml"
    assert len(refused.value.mistakes) == len(REFUSED[name])
    for mistake, expected in zip(refused.value.mistakes, REFUSED[name], strict=True):
        position, _, rest = mistake.removeprefix(str(file)).partition(": ")
        assert 5 <= int(position.removeprefix(":")) <= len(file.read_text().splitlines())
        assert rest.startswith(expected), mistake
        assert rest.removeprefix(expected)


def _mappings(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where messages are: mappings that are not maps of names chosen by people."""
    if isinstance(value, dict):
        chosen = place and (
            place[-1] in MAPS and not (place[-1] in ("headers",) and {"request", "response"} & set(value))
        )
        if not chosen:
            yield place
        for key, item in value.items():
            yield from _mappings(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _mappings(item, (*place, index))


def _documents() -> list[Document]:
    files = [VECTORS / "cases" / "base.yaml", *(case / "config.yaml" for case in CASES)]
    return [document for file in files for document in read_documents(file.read_text(), str(file))]


def test_an_unknown_key_is_refused_at_every_level() -> None:
    tried = 0
    for document in _documents():
        read_resource(document)
        for place in _mappings(document.data):
            data = copy.deepcopy(dict(document.data))
            target: Any = data
            for step in place:
                target = target[step]
            target["unheardOf"] = {}
            expected = "unheardOf: unknown field"
            with pytest.raises(RefusedError, match=expected):
                read_resource(Document(document.source, document.line, data, document.lines))
            tried += 1
    assert tried > 500
