"""The scenarios for ghz: what can be seen without it. `tests/interop/test_scenarios.py` runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import json_format

from protos import grpc_service_pb2 as pb
from protos.contract import SERVICE
from tests.loadtest.scenarios import FOLDER, NAMES, OPTIONS, README, TOP, scenario, seconds

EVERY = pytest.mark.parametrize("name", NAMES)


def messages(options: Mapping[str, Any]) -> list[pb.ModelInferRequest]:
    """What it sends in turn, with the one kind of template that is in data executed."""
    text = json.dumps(options["data"]) if "data" in options else (TOP / options["data-file"]).read_text()
    found = json.loads(re.sub(r"\{\{ repeat (\d+) `(\S+)` \}\}", lambda match: match[2] * int(match[1]), text))
    return [
        json_format.ParseDict(one, pb.ModelInferRequest()) for one in (found if isinstance(found, list) else [found])
    ]


def test_the_readme_lists_every_scenario_and_no_other() -> None:
    assert sorted(re.findall(r"^\| `(\w+)\.toml` \|", README, re.MULTILINE)) == NAMES
    assert {"steady", "ramp", "spike", "soak", "stream", "mixed", "large"} <= set(NAMES)


@EVERY
def test_ghz_knows_every_option(name: str) -> None:
    assert scenario(name).keys() - OPTIONS == set()


@EVERY
def test_it_is_called_what_its_file_is_and_ends_in_good_order(name: str) -> None:
    options = scenario(name)
    assert options["name"] == name
    assert options["duration-stop"] == "wait"  # else the last calls are cut off, and count as failed
    assert options["metadata"]["authorization"] == "Bearer {{ env `TOKEN` }}"


@EVERY
def test_it_finds_the_contract(name: str) -> None:
    options = scenario(name)
    service, _, method = options["call"].partition("/")
    assert service == SERVICE
    assert f"rpc {method}(" in (TOP / options["proto"]).read_text()
    assert all((TOP / folder).is_dir() for folder in options["import-paths"])


@EVERY
def test_its_messages_are_tensors_of_whole_pictures(name: str) -> None:
    for message in messages(scenario(name)):
        (tensor,) = message.inputs
        pictures, places = tensor.shape
        sent = sum(map(len, message.raw_input_contents)) or 4 * len(tensor.contents.fp32_contents)
        assert (message.model_name, places, sent) == ("digits", 64, 4 * 64 * pictures)


def test_each_file_of_messages_is_sent_by_some_scenario() -> None:
    sent = {scenario(name).get("data-file") for name in NAMES} - {None}
    assert {str(file.relative_to(TOP)) for file in FOLDER.glob("*.json")} == sent


def test_large_is_large() -> None:
    (message,) = messages(scenario("large"))
    assert message.ByteSize() > 600_000


def test_mixed_is_for_whatever_can_be_asked_for() -> None:
    assert [message.model_version for message in messages(scenario("mixed"))] == ["", "1", "2", "stable", "canary"]


def test_soak_lasts() -> None:
    assert seconds(scenario("soak")["duration"]) >= 600
