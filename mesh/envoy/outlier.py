"""Ejection of copies that fail. Law: errors alone eject, never success rates.

Source: Istio's applyOutlierDetection in pilot/pkg/networking/core/cluster_traffic_policy.go.
"""

from __future__ import annotations

from mesh.envoy.proto import Json, duration, message
from mesh.istio.destination_rule import OutlierDetection


def outlier_detection(settings: OutlierDetection) -> Json:
    """envoy.config.cluster.v3.OutlierDetection."""
    apart = settings.split_external_local_origin_errors
    local = settings.consecutive_local_origin_failures or None if apart else None
    return message(
        enforcing_success_rate=0,
        consecutive_5xx=settings.consecutive_5xx_errors,
        enforcing_consecutive_5xx=_enforced(settings.consecutive_5xx_errors),
        consecutive_gateway_failure=settings.consecutive_gateway_errors,
        enforcing_consecutive_gateway_failure=_enforced(settings.consecutive_gateway_errors),
        interval=duration(settings.interval),
        base_ejection_time=duration(settings.base_ejection_time),
        max_ejection_percent=settings.max_ejection_percent or None,
        split_external_local_origin_errors=apart or None,
        consecutive_local_origin_failure=local,
        enforcing_consecutive_local_origin_failure=_enforced(local),
        enforcing_local_origin_success_rate=0 if apart else None,
    )


def _enforced(errors: int | None) -> int | None:
    """Percent of ejections that are carried out: all, unless the count is turned off with 0."""
    return None if errors is None else min(errors, 1) * 100
