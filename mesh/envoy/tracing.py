"""Spans of a sidecar. Law: as Telemetry resources and the mesh's providers say together; a tracer never fails a call.

Without a provider there is no tracing, and neither where its service is none that is registered. Source: Istio's
pilot/pkg/networking/core/tracing.go and pilot/pkg/model/telemetry.go, `Telemetries.Tracing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mesh.envoy.proto import Json, message, named, outbound
from mesh.istio.mesh_config import OpenTelemetry
from mesh.istio.proxies import Proxy
from mesh.istio.telemetry import Tracing, WorkloadMode
from mesh.istio.world import World

_DEFAULT_SAMPLING: Final = 1.0  # percent; PILOT_TRACE_SAMPLING
_OTEL: Final = "envoy.config.trace.v3.OpenTelemetryConfig"
_RBAC: Final = "envoy.filters.http.rbac"
_UNKNOWN: Final = "unknown"
_DRY_RUN: Final = {
    "istio.authorization.dry_run.allow_policy.name": "istio_dry_run_allow_shadow_effective_policy_id",
    "istio.authorization.dry_run.allow_policy.result": "istio_dry_run_allow_shadow_engine_result",
    "istio.authorization.dry_run.deny_policy.name": "istio_dry_run_deny_shadow_effective_policy_id",
    "istio.authorization.dry_run.deny_policy.result": "istio_dry_run_deny_shadow_engine_result",
}


@dataclass(frozen=True)
class _Spec:
    """What holds for the calls of a workload, or for calls to it."""

    provider: str | None
    disabled: bool = False
    sampling: float = _DEFAULT_SAMPLING
    tags: bool = True


def tracing(world: World, proxy: Proxy, mode: WorkloadMode) -> Json | None:
    """envoy...HttpConnectionManager.Tracing for calls of the proxy's workload (CLIENT) or to it (SERVER), if any."""
    spec = _spec(world, proxy, mode)
    found = world.mesh.provider(spec.provider) if spec.provider and not spec.disabled else None
    host = world.registered(found.service) if found else None
    if found is None or host is None:
        return None
    return message(
        provider=_provider(proxy, found, host),
        client_sampling={"value": 100},
        random_sampling={"value": spec.sampling},
        overall_sampling={"value": 100},
        custom_tags=_tags(proxy) if spec.tags else None,
        max_path_tag_length=found.max_tag_length or None,
    )


def _spec(world: World, proxy: Proxy, mode: WorkloadMode) -> _Spec:
    defaults = world.mesh.default_providers.tracing
    spec = _Spec(defaults[0] if defaults else None)
    for one in world.tracing(proxy):
        if one.match is None or one.match.mode in (WorkloadMode.CLIENT_AND_SERVER, mode):
            spec = _over(spec, one)
    return spec


def _over(spec: _Spec, one: Tracing) -> _Spec:
    """What is said goes over what was said before."""
    sampling = one.random_sampling_percentage
    return _Spec(
        provider=one.providers[0].name if one.providers else spec.provider,
        disabled=spec.disabled if one.disable_span_reporting is None else one.disable_span_reporting,
        sampling=spec.sampling if sampling is None else sampling,
        tags=spec.tags if one.enable_istio_tags is None else one.enable_istio_tags,
    )


def _provider(proxy: Proxy, provider: OpenTelemetry, host: str) -> Json:
    """Istio's agent calls a proxy's cluster after its workload, and so are its spans."""
    service = {"envoy_grpc": {"cluster_name": outbound(provider.port, host), "authority": host}}
    return named("envoy.tracers.opentelemetry", _OTEL, grpc_service=service, service_name=proxy.name)


def _tags(proxy: Proxy) -> list[Json]:
    labels = proxy.labels
    fixed = {
        "istio.canonical_revision": labels.get("service.istio.io/canonical-revision") or "latest",
        "istio.canonical_service": labels.get("service.istio.io/canonical-name") or _UNKNOWN,
        "istio.cluster_id": _UNKNOWN,
        "istio.mesh_id": _UNKNOWN,
        "istio.namespace": proxy.namespace,
    }
    tags: list[Json] = [{"tag": tag, "literal": {"value": value}} for tag, value in fixed.items()]
    tags += [
        {"tag": tag, "metadata": {"kind": {"request": {}}, "metadata_key": {"key": _RBAC, "path": [{"key": key}]}}}
        for tag, key in _DRY_RUN.items()
    ]
    return sorted(tags, key=lambda one: str(one["tag"]))
