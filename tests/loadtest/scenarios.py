"""The scenarios for ghz in `loadtest/scenarios`, as data."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent.parent
FOLDER = TOP / "loadtest" / "scenarios"
NAMES = sorted(file.stem for file in FOLDER.glob("*.toml"))
README = (FOLDER / "README.md").read_text()

_OPTIONS = """
    async authority binary-file cacert call cert cname concurrency concurrency-end concurrency-max-duration
    concurrency-schedule concurrency-start concurrency-step concurrency-step-duration connect-timeout connections
    count-errors cpus data data-file debug disable-template-data disable-template-functions duration duration-stop
    enable-compression format host import-paths insecure keepalive key lb-strategy load-end load-max-duration
    load-schedule load-start load-step load-step-duration max-duration max-recv-message-size max-send-message-size
    metadata metadata-file name output proto protoset reflect-metadata rps skipFirst skipTLS stream-call-count
    stream-call-duration stream-dynamic-messages stream-interval tags timeout total
"""
OPTIONS = frozenset(_OPTIONS.split())
"""What ghz 0.121 reads in a configuration; what it does not know it passes over."""


def file(name: str) -> Path:
    return FOLDER / f"{name}.toml"


def scenario(name: str) -> dict[str, Any]:
    return tomllib.loads(file(name).read_text())


def seconds(duration: str) -> int:
    """As Go writes it, of one unit."""
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()  # type: ignore[union-attr] # or it fails
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]
