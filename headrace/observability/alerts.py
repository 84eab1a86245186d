"""When somebody is told. Law: an alert says what callers feel or will feel, and docs/alerts.md what to do about it.

`critical` wakes somebody: callers are refused, or what they do is not accounted for. Everything else is a `warning`.
"""

from __future__ import annotations

from collections.abc import Iterator

from headrace.observability import rules, series
from headrace.observability.rule import Alert
from headrace.observability.series import MODEL, REASON, VERSION
from headrace.observability.thresholds import Burn, Thresholds, Timing

_MODEL = "{{ with $labels.headrace_model_name }}{{ . }}{{ else }}no model{{ end }}"
_VERSION = "{{ with $labels.headrace_model_version_served }} {{ . }}{{ end }}"
_SHARE = "{{ $value | humanizePercentage }}"


def alerts(timing: Timing, limits: Thresholds) -> Iterator[Alert]:
    """All of them: of models, of the way to them, of gateways."""
    yield from _budget(timing, limits)
    yield from _models(timing, limits)
    yield from _load(timing, limits)
    yield from _trust(timing, limits)
    yield from _gateways(timing)
    yield from _told(timing)


def _budget(timing: Timing, limits: Thresholds) -> Iterator[Alert]:
    yield Alert(
        "HeadraceErrorBudgetBurnsFast",
        _burn(timing.fast, limits),
        timing.soon,
        "critical",
        f"{_MODEL}: {_SHARE} of calls fail",
        f"Over {timing.fast.short} and over {timing.fast.long}, calls fail at {timing.fast.factor:g} times the rate"
        " that the objective allows.",
    )
    yield Alert(
        "HeadraceErrorBudgetBurnsSlowly",
        _burn(timing.slow, limits),
        timing.late,
        "warning",
        f"{_MODEL}: {_SHARE} of calls fail, for hours",
        f"Over {timing.slow.short} and over {timing.slow.long}, calls fail at {timing.slow.factor:g} times the rate"
        " that the objective allows.",
    )
    took = rules.duration("model", 99, timing.rate)
    yield Alert(
        "HeadraceLatencyOverObjective",
        f"{took} > {rules.objective(rules.LATENCY)} and {rules.counted('model', timing.rate)} > {limits.least:g}",
        timing.late,
        "warning",
        f"{_MODEL}: one call in a hundred takes more than {{{{ $value | humanizeDuration }}}}",
        "The 99th percentile of ModelInfer, as the gateway sees it, is over the model's objective.",
    )
    yield Alert(
        "HeadraceCallersLeave",
        _share(timing, f'{series.STATUS}="CANCELLED"', limits.left),
        timing.late,
        "warning",
        f"{_MODEL}: {_SHARE} of callers do not wait for the answer",
        "Calls are cancelled; on the express lane also those that a caller's deadline ends.",
    )


def _burn(burn: Burn, limits: Thresholds) -> str:
    most = f"{burn.factor:g} * (1 - {rules.objective(rules.AVAILABILITY)})"
    over = " and ".join(f"{rules.failed('model', window)} > {most}" for window in (burn.short, burn.long))
    return f"{over} and {rules.counted('model', burn.long)} > {limits.least:g}"


def _models(timing: Timing, limits: Thresholds) -> Iterator[Alert]:
    ready = f"max {series.by(MODEL, VERSION)} ({series.COPIES_READY}) == 0"
    loaded = f"max {series.by(MODEL)} ({series.MODEL_READY}) == 0"
    called = f"{rules.calls('model', timing.rate)} > 0"
    yield Alert(
        "HeadraceNoReadyCopy",
        f"({ready}) or ({loaded} and on ({MODEL}) {called})",
        timing.soon,
        "critical",
        f"{_MODEL}{_VERSION}: no copy is ready",
        "The gateway has no copy to send calls to that takes them, or no worker has the model loaded.",
        keeps=timing.rate,  # and holds back what is still to be seen in rates
    )
    unready = f'{REASON}="MODEL_NOT_READY"'
    yield Alert(
        "HeadraceModelNotReady",
        _share(timing, unready, limits.unready),
        timing.soon,
        "critical",
        f"{_MODEL}: {_SHARE} of calls find no copy ready",
        "Calls are refused with MODEL_NOT_READY: the gateway reaches no copy that serves the model.",
    )
    yield Alert(
        "HeadraceWorkerDown",
        f'up{{job="{series.WORKER_JOB}"}} == 0',
        timing.late,
        "warning",
        "{{ $labels.instance }}: the worker does not answer",
        "Prometheus cannot fetch its metrics; calls go to other copies, where there are any.",
    )
    ejected = f"sum {series.by(series.CLUSTER)} (max_over_time({series.EJECTED}[{timing.rate}]))"
    yield Alert(
        "HeadraceCopiesEjected",
        f"{ejected} > 0",
        timing.late,
        "warning",
        "{{ $labels.cluster_name }}: {{ $value }} copies are ejected, again and again",
        "Envoy sends them no calls for a while, because they fail too many in a row.",
    )


def _load(timing: Timing, limits: Thresholds) -> Iterator[Alert]:
    depth = f"min_over_time({series.QUEUE_DEPTH}[{timing.rate}])"
    yield Alert(
        "HeadraceQueueGrows",
        f"max {series.by(MODEL, VERSION)} ({depth}) > {limits.queue:g}",
        timing.soon,
        "warning",
        f"{_MODEL}{_VERSION}: {{{{ $value }}}} requests wait, and do not get fewer",
        f"For {timing.rate} a worker's queue has never been shorter: it takes in more than it computes.",
    )
    yield Alert(
        "HeadraceSheddingLoad",
        _share(timing, f'{REASON}="OVERLOADED"', limits.shed),
        timing.late,
        "warning",
        f"{_MODEL}: {_SHARE} of calls are shed",
        "The model has all the calls that it bears; the gateway refuses what is more, with OVERLOADED.",
    )


def _share(timing: Timing, matcher: str, most: float) -> str:
    some = f"sum {series.by(MODEL)} ({series.rate(series.CALLS, timing.rate, series.INFERENCE, matcher)})"
    return f"{some} / ({rules.calls('model', timing.rate)} > 0) > {most:g}"


def _trust(timing: Timing, limits: Thresholds) -> Iterator[Alert]:
    left = f"min {series.by(series.CERTIFICATE, 'instance')} ({series.CERTIFICATE_END}) - time()"
    ends = "{{ $labels.instance }}: the certificate {{ $labels.headrace_certificate }} ends in"
    when = "{{ $value | humanizeDuration }}"
    after = "Once it has ended, callers cannot connect."
    yield Alert(
        "HeadraceCertificateExpiring", f"{left} < {limits.certificate}", timing.soon, "warning", f"{ends} {when}", after
    )
    yield Alert(
        "HeadraceCertificateExpiresNow",
        f"{left} < {limits.certificate_now}",
        timing.soon,
        "critical",
        f"{ends} {when}",
        after,
    )
    issuer = series.by(series.ISSUER)
    yield Alert(
        "HeadraceKeysStale",
        f"max {issuer} ({series.JWKS_AGE}) > {limits.keys}",
        timing.soon,
        "warning",
        "{{ $labels.headrace_issuer }}: keys were last fetched {{ $value | humanizeDuration }} ago",
        "Tokens are verified with the keys that are there; those signed with a newer one are refused.",
    )
    yield Alert(
        "HeadraceNoKeys",
        f"min {issuer} ({series.JWKS_KEYS}) == 0",
        timing.soon,
        "critical",
        "{{ $labels.headrace_issuer }}: a gateway has no keys",
        "Every call with this issuer's tokens is refused with KEYS_UNAVAILABLE.",
    )


def _gateways(timing: Timing) -> Iterator[Alert]:
    yield Alert(
        "HeadraceNoGateway",
        f'absent({series.where(series.READY, f"""job="{series.GATEWAY_JOB}" """.strip())} == 1)',
        timing.soon,
        "critical",
        "no gateway takes calls",
        "None is ready, or Prometheus can fetch the metrics of none.",
    )
    yield Alert(
        "HeadraceGatewayDown",
        f'up{{job="{series.GATEWAY_JOB}"}} == 0 or {series.READY} == 0',
        timing.late,
        "warning",
        "{{ $labels.instance }}: the gateway takes no calls",
        "It is not ready, or Prometheus cannot fetch its metrics.",
    )
    yield Alert(
        "HeadraceConfigRefused",
        f"{series.CONFIG_REFUSED} == 1",
        timing.soon,
        "warning",
        "{{ $labels.instance }}: headrace.yaml as it is now is refused",
        "The gateway goes on with the configuration before; it would not start with this one.",
    )


def _told(timing: Timing) -> Iterator[Alert]:
    yield Alert(
        "HeadraceTelemetryDropped",
        f"sum {series.by(series.SIGNAL, 'instance')} ({series.rate(series.DROPPED, timing.rate, series.LOST)}) > 0",
        timing.late,
        "warning",
        "{{ $labels.instance }}: {{ $labels.headrace_signal }} are lost",
        "{{ $value | humanize }} per second find no room: where they go is down, or too slow.",
    )
    yield Alert(
        "HeadraceAuditFailing",
        f"{series.AUDIT_FAILING} == 1",
        timing.soon,
        "critical",
        "{{ $labels.instance }}: the audit file cannot be written",
        "Calls go on without a line, or are refused, as audit.on_failure says.",
    )
