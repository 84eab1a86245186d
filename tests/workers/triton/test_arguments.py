from __future__ import annotations

from pathlib import Path

from workers.triton.arguments import Options, arguments
from workers.triton.installed import Server

SERVER = Server(Path("/bin/tritonserver"), Path("/backends"), frozenset({"python"}))


def given(options: Options, *, rate_limited: bool = False, gpu: bool = False) -> list[str]:
    return arguments(options, SERVER, Path("/tmp/scratch-1"), Path("/staged"), rate_limited=rate_limited, gpu=gpu)


def test_by_default_nobody_but_the_gateway_gets_in() -> None:
    made = given(Options(Path("/models")))
    assert "--grpc-address=127.0.0.1" in made
    assert "--grpc-port=8001" in made
    assert "--allow-http=false" in made
    assert "--allow-metrics=false" in made
    assert "--model-control-mode=explicit" in made
    assert "--rate-limit=off" in made
    assert "--exit-timeout-secs=30" in made
    assert not any("trace" in each for each in made)


def test_what_is_asked_for_is_there() -> None:
    options = Options(
        Path("/models"), "[::1]:9", otlp="http://c:4318/", service="s", drain=0.2, metrics="0.0.0.0:7", more=("--id=x",)
    )
    made = given(options, rate_limited=True)
    assert {"--grpc-address=[::1]", "--grpc-port=9", "--metrics-address=0.0.0.0", "--metrics-port=7"} <= set(made)
    assert {"--exit-timeout-secs=1", "--rate-limit=execution_count", "--allow-metrics=true"} <= set(made)
    assert "--trace-config=opentelemetry,url=http://c:4318/v1/traces" in made
    assert "--trace-config=opentelemetry,resource=service.name=s" in made
    assert made[-1] == "--id=x"


def test_pinned_memory_is_for_gpus() -> None:
    pinned = "--pinned-memory-pool-byte-size=0"
    assert pinned in given(Options(Path("/models")))
    assert pinned not in given(Options(Path("/models")), gpu=True)


def test_a_path_of_the_collector_s_own_is_kept() -> None:
    made = given(Options(Path("/models"), otlp="http://c:4318/otlp/traces"))
    assert "--trace-config=opentelemetry,url=http://c:4318/otlp/traces" in made
