"""Telemetry: how calls through a sidecar are traced. Law: without a tracing provider it says nothing.

Which providers there are, the mesh's settings say (`mesh.istio.mesh_config`); what comes of both, `mesh.envoy.tracing`.
Metrics, access logs and tags of one's own are refused. Source of the checks: Istio's validation.ValidateTelemetry.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mesh.istio.message import Message, ProtoEnum, Unimplemented
from mesh.istio.selector import WorkloadSelector
from mesh.istio.values import Bool, PercentDouble


class WorkloadMode(ProtoEnum):
    """Whether calls of the workload are meant, calls to it, or both."""

    CLIENT_AND_SERVER = "CLIENT_AND_SERVER"
    CLIENT = "CLIENT"
    SERVER = "SERVER"


class TracingSelector(Message):
    """Which calls are meant."""

    mode: WorkloadMode = WorkloadMode.CLIENT_AND_SERVER


class ProviderRef(Message):
    """A provider of the mesh's settings, by its name."""

    name: Annotated[str, Field(min_length=1)]


class Tracing(Message):
    """How calls are traced. `random_sampling_percentage` is for calls that come without a decision, 0 to 100."""

    match: TracingSelector | None = None
    random_sampling_percentage: PercentDouble | None = None
    disable_span_reporting: Bool | None = None
    providers: Annotated[tuple[ProviderRef, ...], Field(max_length=1)] = ()
    custom_tags: Unimplemented = None
    use_request_id_for_trace_sampling: Unimplemented = None
    enable_istio_tags: Bool | None = None
    disable_context_propagation: Unimplemented = None


class Telemetry(Message):
    """`telemetry.istio.io` Telemetry. Of several in `tracing`, a later one goes over the earlier."""

    selector: WorkloadSelector | None = None
    tracing: tuple[Tracing, ...] = ()
    metrics: Unimplemented = None
    access_logging: Unimplemented = None
    targetRef: Unimplemented = None  # noqa: N815 - its proto name
    targetRefs: Unimplemented = None  # noqa: N815 - its proto name
