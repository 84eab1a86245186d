"""Shares of calls. Law: a share is rounded down to a millionth, as Istio does; whole percents stay percents."""

from __future__ import annotations

from mesh.envoy.proto import Json, message
from mesh.istio.fault import Percent


def in_millionths(share: Percent) -> Json:
    """envoy.type.v3.FractionalPercent out of a million: 12.5 -> 125000."""
    return message(numerator=int(share.value * 10_000) or None, denominator="MILLION")


def in_hundredths(percent: int) -> Json:
    """envoy.type.v3.FractionalPercent out of a hundred, which is proto's default."""
    return message(numerator=percent or None)


def drawn(share: Json) -> Json:
    """envoy.config.core.v3.RuntimeFractionalPercent without a runtime key."""
    return {"default_value": share}
