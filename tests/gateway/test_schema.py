"""The JSON schema agrees with what the gateway takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.schema import schema
from tests.readme import blocks

VALIDATOR = Draft202012Validator(schema())


def example() -> dict[str, Any]:
    """The configuration that the README shows."""
    found = yaml.safe_load(blocks("yaml")[0].replace(" on:", ' "on":'))  # which YAML 1.1 takes for true
    assert isinstance(found, dict)
    return found


def test_it_is_a_schema_and_takes_the_readmes_example() -> None:
    Draft202012Validator.check_schema(schema())
    assert [error.message for error in VALIDATOR.iter_errors(example())] == []


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    made = copy.deepcopy(example())
    change(made)
    return made


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["listen"].update(express=True),
        lambda config: config["models"][0]["versions"].update({"1": None}),
        lambda config: config["upstream"]["endpoints"]["digits"].update({"1": "127.0.0.1:8101"}),
        lambda config: config["listen"].update(admin=None),
        lambda config: config["models"][0].update(sequence=True),
        lambda config: config["models"][0].update(sequence={"idle": "5m"}),
    ],
)
def test_it_takes_all_that_the_gateway_takes(change: Callable[[dict[str, Any]], object]) -> None:
    assert VALIDATOR.is_valid(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["listen"].update(adress="127.0.0.1:1"),
        lambda config: config["listen"].update(drain="25"),
        lambda config: config["listen"].update(drain=25),
        lambda config: config["listen"].update(express="maybe"),
        lambda config: config["models"][0].update(max_request=64),
        lambda config: config["models"][0]["retries"].update(budget=0.2),
        lambda config: config["grants"][0].update(actions=["delete"]),
        lambda config: config["upstream"]["endpoints"]["digits"].update({"1": []}),
        lambda config: config.pop("issuers"),
    ],
)
def test_it_marks_mistakes(change: Callable[[dict[str, Any]], object]) -> None:
    assert not VALIDATOR.is_valid(changed(change))


def test_defaults_are_as_a_user_writes_them() -> None:
    models = schema()["$defs"]
    assert models["Listen"]["properties"]["notice"]["default"] == "500ms"
    assert models["Model"]["properties"]["max_request"]["default"] == "64MiB"
    assert models["Retries"]["properties"]["budget"]["default"] == "20%"
