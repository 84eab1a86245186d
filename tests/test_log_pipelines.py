"""What deploy/observability says of the log is of the form that its programs read, and names what there is.

The collector's own files are tried with the collector: tests/interop/test_log_pipelines.py.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.trace import SpanContext, TraceFlags

from protos import tracing
from protos.line import Line

TOP = Path(__file__).parent.parent
OBSERVABILITY = TOP / "deploy" / "observability"
COMPOSE = OBSERVABILITY / "logs.compose.yaml"
STREAMS = {"logs-headrace-default", "logs-headrace.access-default", "logs-headrace.audit-default"}


class Call:
    request_id = "abc"
    span_context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1))


def keys_of_a_line() -> set[str]:
    error = ValueError("x")
    record = logging.LogRecord("a", logging.INFO, "x", 1, "x", (), (ValueError, error, None))
    return set(json.loads(Line.of(record, Call(), "s").as_json()))


def test_the_guide_tells_every_key() -> None:
    guide = (TOP / "docs" / "logs.md").read_text()
    assert {key for key in keys_of_a_line() if f"`{key}`" not in guide} == set()


def test_the_index_template_has_every_key() -> None:
    template = json.loads((OBSERVABILITY / "elasticsearch" / "index-template.json").read_text())
    mapped = dict(leaves(template["template"]["mappings"]["properties"]))
    access = {tracing.LANE, tracing.RPC_METHOD, tracing.RPC_STATUS, tracing.DURATION, tracing.REQUEST_SIZE}
    access |= {tracing.RESPONSE_SIZE, tracing.MODEL, tracing.VERSION_ASKED, tracing.CALLER, tracing.REASON}
    assert (keys_of_a_line() | access | {tracing.PEER_ADDRESS, "@timestamp"}) - mapped.keys() == set()
    assert {stream for stream in STREAMS if not any(match(at, stream) for at in template["index_patterns"])} == set()


def leaves(properties: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, of in properties.items():
        if "properties" in of:
            yield from leaves(of["properties"], f"{before}{name}.")
        else:
            yield f"{before}{name}", of["type"]


def match(pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) is not None


def test_compose_mounts_what_there_is_and_pins_what_it_runs() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for service in services.values():
        assert re.search(r":\d+\.\d+\.\d+$", service["image"])
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (OBSERVABILITY / volume.partition(":")[0]).exists(), volume
        assert set(service.get("depends_on", {})) <= services.keys()


def test_compose_sets_each_variable_of_the_collectors() -> None:
    collector = yaml.safe_load(COMPOSE.read_text())["services"]["collector"]
    named: set[str] = set()
    for option in collector["command"]:
        file = OBSERVABILITY / "otel-collector" / Path(option.partition("=")[2]).name
        named |= set(re.findall(r"\$\{env:(\w+)", file.read_text()))
        assert yaml.safe_load(file.read_text())["service"]["pipelines"]
    assert collector["environment"].keys() <= named
    assert named - collector["environment"].keys() == {"TOPIC", "ELASTICSEARCH_API_KEY"}
    mounted = {volume.rpartition(":/etc/headrace")[0] for volume in collector["volumes"]}
    assert "./otel-collector" in {volume.rstrip(":") for volume in mounted}


def test_fluent_bit() -> None:
    config = yaml.safe_load((OBSERVABILITY / "fluent-bit" / "fluent-bit.yaml").read_text())
    parsers = {parser["name"] for parser in config["parsers"]}
    inputs, outputs = config["pipeline"]["inputs"], config["pipeline"]["outputs"]
    tags = {one["tag"] for one in inputs}
    assert {one["parser"] for one in inputs} <= parsers
    assert {one["index"] for one in outputs if one["name"] == "es"} == STREAMS
    assert {one["write_operation"] for one in outputs if one["name"] == "es"} == {"create"}
    assert all(any(match(one["match"], tag) for tag in tags) for one in outputs)
    named = set(re.findall(r"\$\{(\w+)\}", json.dumps(config["pipeline"])))
    assert named == config["env"].keys()


def test_fluentd() -> None:
    text = (OBSERVABILITY / "fluentd" / "fluent.conf").read_text()
    open_: list[str] = []
    for line in filter(None, (line.partition("# ")[0].strip() for line in text.splitlines())):
        if end := re.fullmatch(r"</(\w+)>", line):
            assert open_.pop() == end[1]
        elif begin := re.fullmatch(r"<(\w+)(?: [\w.*@]+)?>", line):
            open_.append(begin[1])
        else:
            assert re.fullmatch(r"@?\w+ \S.*", line), line
    assert not open_
    assert set(re.findall(r"data_stream_name (\S+)", text)) == STREAMS
    assert set(re.findall(r"<match (headrace\.\w+)>", text)) == set(re.findall(r"tag (headrace\.\w+)", text))
    assert set(re.findall(r"@label (@\w+)", text)) == set(re.findall(r"<label (@\w+)>", text))


def test_logstash() -> None:
    text = (OBSERVABILITY / "logstash" / "headrace.conf").read_text()
    bare = re.sub(r'"[^"\n]*"|/[^/\n]*/|#.*', "", text)
    assert '"' not in bare
    open_: list[str] = []
    for sign in re.findall(r"[{}\[\]]", bare):
        if sign in "{[":
            open_.append(sign)
        else:
            assert open_.pop() + sign in ("{}", "[]")
    assert not open_
    assert re.findall(r"^(\w+) \{", bare, re.MULTILINE) == ["input", "filter", "output"]
    datasets = re.findall(r'"\[data_stream\]\[dataset\]" => "([\w.]+)"', text)
    assert {f"logs-{dataset}-default" for dataset in datasets} == STREAMS


def test_kibana() -> None:
    objects = [
        json.loads(line) for line in (OBSERVABILITY / "elasticsearch" / "kibana.ndjson").read_text().splitlines()
    ]
    ids = {one["id"] for one in objects}
    known = keys_of_a_line() | {tracing.RPC_METHOD, tracing.RPC_STATUS, tracing.REASON, tracing.CALLER, tracing.MODEL}
    for one in objects:
        assert {reference["id"] for reference in one["references"]} <= ids
        assert set(one["attributes"].get("columns", [])) <= known
        if one["type"] == "search":
            assert (
                json.loads(one["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]["language"]
                == "kuery"
            )


@pytest.mark.parametrize("name", ["collector", "kafka", "elasticsearch"])
def test_what_a_pipeline_of_the_collectors_names_is_there(name: str) -> None:
    files = [
        yaml.safe_load((OBSERVABILITY / "otel-collector" / f"{one}.yaml").read_text()) for one in ("collector", name)
    ]
    there = {
        kind: set().union(*(file.get(kind, {}) for file in files)) for kind in ("receivers", "processors", "exporters")
    }
    for pipeline in files[-1]["service"]["pipelines"].values():
        for kind, names in there.items():
            assert set(pipeline[kind]) <= names
