"""The series that rules and dashboards read. Law: the names of metrics and labels are spelled here only.

A label is an attribute of `protos.tracing`, as Prometheus spells it.
"""

from __future__ import annotations

from typing import Final

from protos import tracing
from protos.metrics.described import label

METHOD: Final = label(tracing.RPC_METHOD)
STATUS: Final = label(tracing.RPC_STATUS)
MODEL: Final = label(tracing.MODEL)
ASKED: Final = label(tracing.VERSION_ASKED)
VERSION: Final = label(tracing.VERSION_SERVED)
REASON: Final = label(tracing.REASON)
LANE: Final = label(tracing.LANE)
GRANT: Final = label(tracing.GRANT)
RESULT: Final = "headrace_result"
ISSUER: Final = "headrace_issuer"
CERTIFICATE: Final = "headrace_certificate"
SIGNAL: Final = "headrace_signal"
DIRECTION: Final = "headrace_direction"
CLUSTER: Final = "cluster_name"
"""As Istio's sidecars call it; Envoy by itself says `envoy_cluster_name`."""

CALLS: Final = "headrace_calls_total"
DURATION: Final = "rpc_server_call_duration_seconds"
GATEWAY_DURATION: Final = "headrace_gateway_duration_seconds"
QUEUE_DURATION: Final = "headrace_queue_duration_seconds"
COMPUTE_DURATION: Final = "headrace_compute_duration_seconds"
BATCH_SIZE: Final = "headrace_batch_size"
QUEUE_DEPTH: Final = "headrace_queue_depth"
MODEL_READY: Final = "headrace_model_ready"
ACTIVE: Final = "headrace_calls_active"
LIMIT: Final = "headrace_admission_limit"
RUNNING: Final = "headrace_admission_running"
COPIES: Final = "headrace_copies"
COPIES_READY: Final = "headrace_copies_ready"
TOKENS: Final = "headrace_tokens_total"
JWKS_AGE: Final = "headrace_jwks_age_seconds"
JWKS_KEYS: Final = "headrace_jwks_keys"
CERTIFICATE_END: Final = "headrace_certificate_expiry_timestamp_seconds"
GENERATION: Final = "headrace_config_generation"
CONFIG_REFUSED: Final = "headrace_config_refused"
READY: Final = "headrace_ready"
DROPPED: Final = "headrace_telemetry_dropped_total"
AUDIT_FAILING: Final = "headrace_audit_failing"
MESSAGES: Final = "headrace_stream_messages_total"
GPU_UTILIZATION: Final = "hw_gpu_utilization_ratio"
GPU_USED: Final = "hw_gpu_memory_usage_bytes"
GPU_LIMIT: Final = "hw_gpu_memory_limit_bytes"
CPU: Final = "process_cpu_seconds_total"
MEMORY: Final = "process_resident_memory_bytes"
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
