"""Programs that log lines go to: the OpenTelemetry Collector, Kafka and OpenSearch, as `tools.sh` leaves them on PATH.

Law: each runs while inside, on free ports of this machine, and is gone afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gateway.world import unused_address

HERE = Path(__file__).parent
CONFIGS = HERE.parent.parent / "deploy" / "observability" / "otel-collector"
OTELCOL = shutil.which("otelcol")
_WAIT = 60  # seconds; the machine may be busy


def _jars(name: str) -> str | None:
    """The class path of a program from Maven; None where it is not here, or nothing to run it."""
    found = [path for folder in os.get_exec_path() if (path := Path(folder, name)).is_dir()]
    return f"{found[0]}/*" if found and shutil.which("java") else None


KAFKA = _jars("kafka")
OPENSEARCH = _jars("opensearch")


@dataclass(frozen=True)
class Collector:
    """Where it takes OTLP, shows metrics, and the folder whose files it reads."""

    otlp: str
    metrics: str
    logs: Path


@contextlib.contextmanager
def collector(folder: Path, kafka: str, jaeger: str) -> Iterator[Collector]:
    """The collector with deploy's own configuration; its files are in `folder/logs`."""
    logs = folder / "logs"
    logs.mkdir()
    otlp, metrics, health = (unused_address() for _ in range(3))
    environment = {
        "LOGS": str(logs),
        "STORAGE": str(folder / "storage"),
        "OTLP_GRPC": otlp,
        "PROMETHEUS": metrics,
        "HEALTH": health,
        "KAFKA": kafka,
        "JAEGER": jaeger,
    }
    line = [str(OTELCOL), "--config", str(CONFIGS / "collector.yaml"), "--config", str(CONFIGS / "kafka.yaml")]
    with _running(line, folder / "collector.log", environment, lambda: _get(f"http://{health}") is not None):
        yield Collector(f"http://{otlp}", metrics, logs)


@contextlib.contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """The address of a broker, which is its own controller (KRaft)."""
    assert KAFKA is not None
    address, controller = unused_address(), unused_address()
    settings = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "listeners": f"PLAINTEXT://{address},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{address}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "offsets.topic.replication.factor": "1",
        "log.dirs": str(folder / "data"),
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    format_it = _java(KAFKA, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(file))
    subprocess.run(format_it, check=True, capture_output=True, timeout=_WAIT)

    def up() -> bool:
        asks = _java(KAFKA, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", address, "--list")
        return subprocess.run(asks, check=False, capture_output=True, timeout=_WAIT).returncode == 0

    with _running(_java(KAFKA, "kafka.Kafka", str(file)), folder / "kafka.log", {}, up):
        yield address


@contextlib.contextmanager
def consumed(folder: Path, broker: str, topic: str) -> Iterator[Callable[[], list[Any]]]:
    """What Kafka's own consumer has read of the topic so far, each message as JSON."""
    assert KAFKA is not None
    file = folder / "consumed"
    line = _java(KAFKA, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", broker)
    with file.open("wb") as output, (folder / "consumer.log").open("wb") as errors:
        reader = subprocess.Popen([*line, "--topic", topic, "--from-beginning"], stdout=output, stderr=errors)
    try:
        yield lambda: [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    finally:
        reader.kill()
        reader.wait(_WAIT)


@contextlib.contextmanager
def opensearch(folder: Path) -> Iterator[str]:
    """The URL of a node of OpenSearch."""
    assert OPENSEARCH is not None
    (folder / "config").mkdir()
    host, _, port = unused_address().rpartition(":")
    url = f"http://{host}:{port}"
    line = [*_java(OPENSEARCH), str(HERE / "opensearch" / "Real.java"), str(folder), port]
    with _running(line, folder / "opensearch.log", {}, lambda: _get(f"{url}/_cluster/health") is not None):
        yield url


def _java(jars: str, *arguments: str) -> list[str]:
    return ["java", "-Xmx512m", "-Dlog4j2.disable.jmx=true", "-cp", jars, *arguments]


@contextlib.contextmanager
def _running(line: list[str], log: Path, environment: Mapping[str, str], up: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=said, stderr=said, cwd=log.parent, env={**os.environ, **environment}
        )
    try:
        until = time.monotonic() + _WAIT
        while not up():
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_WAIT)
        finally:
            process.kill()
            process.wait(_WAIT)
            assert process.stdin is not None
            process.stdin.close()


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            read: bytes = answer.read()
            return read
    except (urllib.error.URLError, OSError):
        return None
