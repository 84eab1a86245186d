"""What gRPC reads of an answer that Envoy itself gives. Needs the `envoy` of the extra `mesh`."""

from pathlib import Path
from typing import Any

from mesh.explain.routes import status
from mesh.istio.fault import GRPC_STATUSES
from tests.envoy import needs_envoy
from tests.mesh.explain.envoy import Headers, envoy

pytestmark = needs_envoy

GRPC: Headers = (("content-type", "application/grpc"), ("te", "trailers"))
CODES = (200, 400, 401, 403, 404, 409, 429, 500, 501, 502, 503, 504)


def table(*routes: Any) -> dict[str, Any]:
    return {"virtual_hosts": [{"name": "h", "domains": ["*"], "routes": list(routes)}]}


def test_statuses_of_answers(tmp_path: Path) -> None:
    answers = [{"match": {"path": f"/{code}"}, "direct_response": {"status": code}} for code in CODES]
    with envoy(tmp_path, [table(*answers)]) as sent:
        for code in CODES:
            _, headers = sent.answer(0, "h", f"/{code}", GRPC)
            assert headers["grpc-status"] == str(GRPC_STATUSES[status(code)]), code


def test_a_call_that_no_route_takes_is_unimplemented(tmp_path: Path) -> None:
    with envoy(tmp_path, [table({"match": {"path": "/"}, "direct_response": {"status": 200}})]) as sent:
        _, headers = sent.answer(0, "h", "/inference.GRPCInferenceService/ModelInfer", GRPC)
    assert headers["grpc-status"] == str(GRPC_STATUSES["UNIMPLEMENTED"])


def test_a_cluster_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    nowhere = {"match": {"prefix": "/"}, "route": {"cluster": "outbound|8001|v4|h"}}
    with envoy(tmp_path, [table(nowhere) | {"validate_clusters": False}]) as sent:
        _, headers = sent.answer(0, "h", "/x", GRPC)
    assert headers["grpc-status"] == str(GRPC_STATUSES["UNAVAILABLE"])
