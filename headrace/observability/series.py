"""The series that rules and dashboards read. Law: others name no metric and no label but by these.

Ours are called as their instruments say; a label is an attribute of `protos.tracing`, as Prometheus spells it.
"""

from __future__ import annotations

from typing import Final

from gateway import metrics as gateway
from protos import tracing
from protos.metrics import process, shared
from protos.metrics.described import label
from workers import metrics as worker

METHOD: Final = label(tracing.RPC_METHOD)
STATUS: Final = label(tracing.RPC_STATUS)
MODEL: Final = label(tracing.MODEL)
ASKED: Final = label(tracing.VERSION_ASKED)
VERSION: Final = label(tracing.VERSION_SERVED)
REASON: Final = label(tracing.REASON)
LANE: Final = label(tracing.LANE)
GRANT: Final = label(tracing.GRANT)
RESULT: Final = label(tracing.RESULT)
ISSUER: Final = label(tracing.ISSUER)
CERTIFICATE: Final = label(tracing.CERTIFICATE)
SIGNAL: Final = label(tracing.SIGNAL)
DIRECTION: Final = label(tracing.DIRECTION)
CLUSTER: Final = "cluster_name"
"""As Istio's sidecars call it; Envoy by itself says `envoy_cluster_name`."""

CALLS: Final = gateway.CALLS.exposed
DURATION: Final = shared.DURATION.exposed
GATEWAY_DURATION: Final = gateway.GATEWAY_DURATION.exposed
QUEUE_DURATION: Final = worker.QUEUE_DURATION.exposed
COMPUTE_DURATION: Final = worker.COMPUTE_DURATION.exposed
BATCH_SIZE: Final = worker.BATCH_SIZE.exposed
QUEUE_DEPTH: Final = worker.QUEUE_DEPTH.exposed
MODEL_READY: Final = worker.MODEL_READY.exposed
ACTIVE: Final = gateway.ACTIVE.exposed
LIMIT: Final = gateway.LIMIT.exposed
RUNNING: Final = gateway.RUNNING.exposed
COPIES: Final = gateway.COPIES.exposed
COPIES_READY: Final = gateway.COPIES_READY.exposed
TOKENS: Final = gateway.TOKENS.exposed
JWKS_AGE: Final = gateway.JWKS_AGE.exposed
JWKS_KEYS: Final = gateway.JWKS_KEYS.exposed
CERTIFICATE_END: Final = gateway.EXPIRY.exposed
GENERATION: Final = gateway.GENERATION.exposed
CONFIG_REFUSED: Final = gateway.REFUSED.exposed
READY: Final = gateway.READY.exposed
DROPPED: Final = shared.DROPPED.exposed
AUDIT_FAILING: Final = gateway.AUDIT_FAILING.exposed
MESSAGES: Final = gateway.MESSAGES.exposed
GPU_UTILIZATION: Final = worker.GPU_UTILIZATION.exposed
GPU_USED: Final = worker.GPU_MEMORY_USAGE.exposed
GPU_LIMIT: Final = worker.GPU_MEMORY_LIMIT.exposed
CPU: Final = process.CPU.exposed
MEMORY: Final = process.MEMORY.exposed
EJECTED: Final = "envoy_cluster_outlier_detection_ejections_active"
BROKEN: Final = "envoy_cluster_upstream_rq_pending_overflow"
HEALTHY: Final = "envoy_cluster_membership_healthy"

GATEWAY_JOB: Final = "headrace-gateway"
WORKER_JOB: Final = "headrace-worker"
MESH_JOB: Final = "headrace-mesh"

INFERENCE: Final = f'{METHOD}=~".+/Model(Infer|StreamInfer)"'
UNARY: Final = f'{METHOD}=~".+/ModelInfer"'
OF_GATEWAY: Final = f'{LANE}!=""'
"""Workers tell durations under the same name, without a lane."""
ANSWERED: Final = f'{STATUS}="OK"'
_OURS: Final = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED", "DEADLINE_EXCEEDED")
FAILED: Final = (f'{STATUS}=~"{"|".join(_OURS)}"', f'{REASON}="OVERLOADED"')
"""Calls that use up the error budget are those of either kind (docs/decisions/0038); the rest are callers' mistakes."""

LOST: Final = f'{SIGNAL}!="spans_over_limit"'
"""Who has a flood of failures keeps the spans of some of them: no others are missed."""


def by(*labels: str) -> str:
    """The clause of an aggregation."""
    return f"by ({', '.join(labels)})"


def where(name: str, *matchers: str) -> str:
    """A selector; empty matchers are left out."""
    inside = ", ".join(matcher for matcher in matchers if matcher)
    return f"{name}{{{inside}}}" if inside else name


def rate(name: str, window: str, *matchers: str) -> str:
    """Per second."""
    return f"rate({where(name, *matchers)}[{window}])"


def quantile(share: float, histogram: str, window: str, labels: tuple[str, ...], *matchers: str) -> str:
    """Of a histogram with classic buckets."""
    return f"histogram_quantile({share:g}, sum {by('le', *labels)} ({rate(f'{histogram}_bucket', window, *matchers)}))"
