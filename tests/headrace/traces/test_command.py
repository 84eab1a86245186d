"""`headrace collector` as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from tests.headrace.called import headrace
from tests.headrace.traces.some import TRACE, exporter, otlp, request

COLLECTOR = (sys.executable, "-m", "headrace", "collector")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_keeps_what_comes_until_it_is_stopped(number: signal.Signals) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which may be ignored here, and inherited
    try:
        process = subprocess.Popen(
            [*COLLECTOR, "--otlp", "127.0.0.1:0", "--query", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            assert process.stdout
            ready, hint = process.stdout.readline(), process.stdout.readline()
            (otlp_address,) = re.findall(r"^headrace collector ready on (127\.0\.0\.1:\d+)$", ready)
            (query,) = re.findall(r"^headrace trace --from (http://127\.0\.0\.1:\d+) shows what comes$", hint)
            with exporter(otlp_address) as export:
                export(request(otlp(name="a span")).SerializeToString())
            assert "a span" in headrace("trace", "--from", query).stdout
            assert headrace("trace", TRACE, "--from", query).stdout.startswith(f"trace {TRACE}  a span")
            again = [*COLLECTOR, "--otlp", otlp_address, "--query", "127.0.0.1:0"]
            second = subprocess.run(again, capture_output=True, text=True, timeout=60, check=False)
            taken = f"cannot listen on {otlp_address} (Address already in use)"
            assert second.stderr == f"headrace: {taken}: choose another --otlp or --query\n"
        finally:
            process.send_signal(number)
            assert process.wait(30) == 0


def test_a_size_without_a_unit_is_a_usage_error() -> None:
    assert headrace("collector", "--memory", "5").returncode == 2
