"""The files of the catalogs, byte for byte; and what Istio would refuse is refused before it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh.catalog import Catalog, Mesh
from mesh.render.files import render
from mesh.render.source import Issuer, RenderError, Source
from mesh.render.text import is_ours
from mesh.render.weights import live
from tests.mesh.render.models import canary, catalog, model
from tests.mesh.render.rendered import CATALOGS, committed, source, world

EVERY = pytest.mark.parametrize("folder", CATALOGS, ids=lambda path: path.name)


def test_all_are_there() -> None:
    names = ["canary", "cluster", "names", "sequence", "shadow", "shared", "tokens"]
    assert [folder.name for folder in CATALOGS] == names


@EVERY
def test_what_is_rendered(folder: Path) -> None:
    files = render(source(folder), {})
    assert files == committed(folder)
    assert all(map(is_ours, files.values()))


@EVERY
def test_rendering_what_was_rendered_changes_nothing(folder: Path) -> None:
    assert render(source(folder), live(committed(folder))) == committed(folder)


@EVERY
def test_the_files_are_a_world(folder: Path) -> None:
    assert world(folder).virtual_services


def test_keys_of_a_file_without_what_is_not_for_others() -> None:
    (folder,) = (one for one in CATALOGS if one.name == "tokens")
    _, accounts = source(folder).issuers
    assert accounts.jwks is not None
    assert [key["kid"] for key in json.loads(accounts.jwks)["keys"]] == ["rsa", "ed"]
    in_file = {key["kid"]: key for key in json.loads((folder / "keys.json").read_text())["keys"]}
    assert in_file.keys() == {"rsa", "ed", "private", "symmetric"}
    assert json.loads(accounts.jwks)["keys"] == [
        {name: value for name, value in in_file[kid].items() if name != "key_ops"} for kid in ("rsa", "ed")
    ]


def made(models: Catalog, **mesh: object) -> dict[str, str]:
    issuers = (Issuer("https://id.example/", ("headrace",)),)
    return dict(render(Source(models, Mesh.model_validate(mesh), issuers), {}))


@pytest.mark.parametrize(
    ("models", "mesh", "words"),
    [
        (catalog(model(versions={"1": {"version": "é"}})), {}, "spec.subsets[0].labels: 'é' is no value of a label"),
        (catalog(model(versions={"1": {"istio.io/x": "y", "é": "z"}})), {}, "'é' is no label"),
        (catalog(canary(retries={"per_try": "0s"})), {}, "spec.http[3].retries.perTryTimeout: 0s is shorter than 1ms"),
        (catalog(canary()), {"gateway": {"namespace": "no such"}}, "Sidecar no such/gateway: metadata.namespace: "),
    ],
)
def test_what_istio_would_refuse(models: Catalog, mesh: dict[str, object], words: str) -> None:
    assert made(catalog(canary()))
    with pytest.raises(RenderError) as refused:
        made(models, **mesh)
    assert any(words in mistake for mistake in refused.value.mistakes), refused.value.mistakes
