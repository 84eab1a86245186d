"""Models and their services for the tests of single modules."""

from __future__ import annotations

from typing import Any

from mesh.catalog import Catalog, GatewayWorkload, Model
from mesh.render.services import Service, services

GATEWAY = GatewayWorkload()


def model(name: str = "digits", host: str = "digits.models:8001", **more: Any) -> Model:
    """A model; it has one version without labels, unless told otherwise."""
    return Model.model_validate({"name": name, "host": host, "versions": {"1": {}}, **more})


def canary(**more: Any) -> Model:
    """A model of two versions, each with copies of its own, 90 to 10."""
    versions = {"1": {"version": "v1"}, "2": {"version": "v2"}}
    return model(**{"versions": versions, "traffic": {"1": 90, "2": 10}, **more})


def catalog(*models: Model) -> Catalog:
    """The models by name."""
    return {one.name: one for one in models}


def service(*models: Model) -> Service:
    """The one service of some models."""
    (only,) = services(catalog(*models), GATEWAY)
    return only
