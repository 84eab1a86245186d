"""What promtool is given: for each alert, series in which it fires and clears again, and some in which it must not.

Series are in promtool's notation, a value each minute (https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HOURS = 60  # minutes


@dataclass(frozen=True)
class Case:
    """At which minutes the alert is silent, and at which it fires; what the series tell; labels of what fires."""

    alert: str
    tells: str
    series: Mapping[str, str]
    silent: Sequence[int] = ()
    fires: Sequence[int] = ()
    labels: str = 'headrace_model_name="digits"'


def calls(status: str, reason: str = "", model: str = "digits", method: str = "ModelInfer") -> str:
    labels = {
        "job": "headrace-gateway",
        "instance": "gateway:9090",
        "rpc_method": f"inference.GRPCInferenceService/{method}",
        "headrace_model_name": model,
        "headrace_model_version_served": "1",
        "headrace_grant": "readers",
        "headrace_lane": "python",
        "rpc_response_status_code": status,
        "headrace_reason": reason,
    }
    return "headrace_calls_total" + _braces(labels)


def gauge(name: str, **labels: str) -> str:
    return name + _braces({"job": "headrace-gateway", "instance": "gateway:9090"} | labels)


def worker(name: str, instance: str = "worker:9101") -> str:
    labels = {"headrace_model_name": "digits", "headrace_model_version_served": "1"}
    return name + _braces({"job": "headrace-worker", "instance": instance} | labels)


def bucket(le: str) -> str:
    labels = {"rpc_method": "inference.GRPCInferenceService/ModelInfer", "headrace_model_name": "digits"}
    labels |= {"headrace_lane": "express", "rpc_response_status_code": "OK", "headrace_model_version_served": "1"}
    return "rpc_server_call_duration_seconds_bucket" + _braces(labels | {"le": le})


def _braces(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def counter(*phases: tuple[int, int]) -> str:
    """(a minute, minutes) each."""
    value, parts = 0, []
    for step, minutes in phases:
        parts.append(f"{value}+{step}x{minutes - 1}")
        value += step * minutes
    return " ".join(parts)


def level(*phases: tuple[int, int]) -> str:
    """(value, minutes) each."""
    return " ".join(f"{value}x{minutes - 1}" for value, minutes in phases)


def steps(least: int, most: int, minutes: int) -> str:
    """Up and down again, from one minute to the next."""
    return " ".join(str(most if minute % 2 else least) for minute in range(minutes))


EJECTED = gauge("envoy_cluster_outlier_detection_ejections_active", cluster_name="digits")
ENDS = gauge("headrace_certificate_expiry_timestamp_seconds", headrace_certificate="server")
AGE = gauge("headrace_jwks_age_seconds", headrace_issuer="https://id.example/")
KEYS = gauge("headrace_jwks_keys", headrace_issuer="https://id.example/")
DROPPED = gauge("headrace_telemetry_dropped_total", headrace_signal="spans")
LINES = gauge("headrace_telemetry_dropped_total", headrace_signal="access_log")
READY = gauge("headrace_ready")
REFUSED = gauge("headrace_config_refused")
AUDIT = gauge("headrace_audit_failing")
WORKER_UP = 'up{job="headrace-worker", instance="worker:9101"}'
GATEWAY_UP = 'up{job="headrace-gateway", instance="gateway:9090"}'
LOADED = worker("headrace_model_ready")
QUEUE = worker("headrace_queue_depth")
COPIES = worker("headrace_copies_ready", "gateway:9090")
OF_ISSUER = 'headrace_issuer="https://id.example/"'
OF_SERVER = 'headrace_certificate="server"'
OF_GATEWAY = 'instance="gateway:9090"'
OK = {calls("OK"): counter((600, 24 * HOURS))}
AN_HOUR = ((0, HOURS), (60, HOURS), (0, 22 * HOURS))  # a tenth of the calls, for the second hour
BURNS = "HeadraceErrorBudgetBurnsFast"
SLOWLY = "HeadraceErrorBudgetBurnsSlowly"


def failing(status: str, reason: str = "", *phases: tuple[int, int]) -> dict[str, str]:
    return OK | {calls(status, reason): counter(*(phases or AN_HOUR))}


CASES = [
    Case(BURNS, "no copy answers", failing("UNAVAILABLE"), [59, 135], [90, 119]),
    Case(BURNS, "deadlines pass", failing("DEADLINE_EXCEEDED", "DEADLINE"), [59, 135], [90]),
    Case(BURNS, "load is shed", failing("RESOURCE_EXHAUSTED", "OVERLOADED"), [59, 135], [90]),
    Case(BURNS, "a state is lost", failing("ABORTED", "SEQUENCE_LOST"), [59, 135], [90]),
    Case(BURNS, "callers are not granted it", failing("PERMISSION_DENIED", "NOT_GRANTED"), [59, 90, 135]),
    Case(BURNS, "callers call too often", failing("RESOURCE_EXHAUSTED", "RATE_LIMITED"), [59, 90, 135]),
    Case(BURNS, "callers send too much", failing("RESOURCE_EXHAUSTED", "TOO_LARGE"), [59, 90, 135]),
    Case(BURNS, "callers leave", failing("CANCELLED"), [59, 90, 135]),
    Case(
        BURNS,
        "an outage of all calls, among a flood of bad tokens",
        {
            calls("OK"): counter((60, HOURS), (0, HOURS), (60, 2 * HOURS)),
            calls("UNAVAILABLE"): counter((0, HOURS), (60, HOURS), (0, 2 * HOURS)),
            calls("PERMISSION_DENIED", "NOT_GRANTED"): counter((60_000, 4 * HOURS)),
        },
        [59, 135],
        [90],
    ),
    Case(BURNS, "two minutes of it", failing("INTERNAL", "INTERNAL", (0, 60), (60, 2), (0, 60)), [61, 63, 66, 90]),
    Case(
        BURNS,
        "three calls in all, and they fail",
        {calls("INTERNAL", "INTERNAL"): counter((0, 20), (1, 3), (0, 60))},
        [21, 23, 30, 60],
    ),
    Case(BURNS, "management fails", OK | {calls("UNAVAILABLE", method="RepositoryIndex"): counter(*AN_HOUR)}, [90]),
    Case(
        BURNS,
        "keys are not to be had",
        {calls("UNAVAILABLE", "KEYS_UNAVAILABLE", model=""): counter(*AN_HOUR)},
        [59],
        [90],
        'headrace_model_name=""',
    ),
    Case(
        SLOWLY,
        "one call in a hundred fails",
        failing("UNAVAILABLE", "", (0, 360), (6, 480), (0, 600)),
        [359, 1000],
        [800, 839],
    ),
    Case(SLOWLY, "one in two hundred", failing("UNAVAILABLE", "", (0, 360), (3, 480), (0, 600)), [359, 800, 839, 1000]),
    Case(
        "HeadraceLatencyOverObjective",
        "one call in fifty takes two to four seconds",
        OK
        | {
            bucket("1"): counter((600, 60), (588, 60), (600, 60)),
            bucket("2"): counter((600, 60), (588, 60), (600, 60)),
            bucket("4"): counter((600, 180)),
            bucket("+Inf"): counter((600, 180)),
        },
        [59, 65, 140],
        [80, 119],
    ),
    Case(
        "HeadraceCallersLeave",
        "one in six",
        failing("CANCELLED", "", (0, 60), (120, 60), (0, 60)),
        [59, 135],
        [90, 119],
    ),
    Case("HeadraceCallersLeave", "one in eleven", failing("CANCELLED"), [59, 90, 119, 135]),
    Case(
        "HeadraceLatencyOverObjective",
        "one in two hundred does",
        OK
        | {
            bucket("1"): counter((600, 60), (597, 60), (600, 60)),
            bucket("4"): counter((600, 180)),
            bucket("+Inf"): counter((600, 180)),
        },
        [59, 80, 119, 140],
    ),
    Case(
        "HeadraceNoReadyCopy",
        "the gateway's Envoy has none",
        {COPIES: level((2, 10), (0, 10), (1, 20))},
        [9, 10, 26],
        [12, 19, 24],  # and five minutes more
    ),
    Case("HeadraceNoReadyCopy", "one of two is left", {COPIES: level((2, 10), (1, 20))}, [9, 15, 29]),
    Case(
        "HeadraceNoReadyCopy",
        "workers have unloaded it, and it is called",
        OK | {LOADED: level((1, 10), (0, 10), (1, 20))},
        [9, 26],
        [12, 19, 24],
    ),
    Case(
        "HeadraceNoReadyCopy",
        "one worker has",
        OK | {LOADED: level((1, 10), (0, 20)), worker("headrace_model_ready", "other:9101"): level((1, 30))},
        [9, 15, 29],
    ),
    Case("HeadraceNoReadyCopy", "nobody calls it", {LOADED: level((0, 30))}, [9, 15, 29]),
    Case(
        "HeadraceModelNotReady",
        "all calls find none",
        {
            calls("OK"): counter((60, 20), (0, 20), (60, 40)),
            calls("UNAVAILABLE", "MODEL_NOT_READY"): counter((0, 20), (60, 20), (0, 40)),
        },
        [19, 50],
        [30, 39],
    ),
    Case(
        "HeadraceModelNotReady",
        "one in eleven does",
        OK | {calls("UNAVAILABLE", "MODEL_NOT_READY"): counter((0, 20), (60, 20), (0, 40))},
        [19, 30, 39, 50],
    ),
    Case(
        "HeadraceWorkerDown",
        "it is gone",
        {WORKER_UP: level((1, 10), (0, 20), (1, 10))},
        [9, 15, 31],
        [25, 29],
        'instance="worker:9101"',
    ),
    Case(
        "HeadraceWorkerDown",
        "it starts anew",
        {WORKER_UP: level((1, 10), (0, 5), (1, 25))},
        [9, 12, 14, 25, 39],
        labels="",
    ),
    Case(
        "HeadraceCopiesEjected",
        "one is, every other minute",
        {EJECTED: f"{level((0, 10))} {steps(0, 1, 20)} {level((0, 20))}"},
        [9, 15, 37],
        [25, 29],
        'cluster_name="digits"',
    ),
    Case(
        "HeadraceCopiesEjected",
        "one is, once",
        {EJECTED: level((0, 10), (1, 1), (0, 30))},
        [9, 11, 15, 22, 39],
        labels="",
    ),
    Case(
        "HeadraceQueueGrows", "it fills", {QUEUE: f"{level((0, 10))} 0+10x20 {level((0, 10))}"}, [9, 12, 33], [22, 30]
    ),
    Case("HeadraceQueueGrows", "it fills and is emptied", {QUEUE: steps(0, 500, 40)}, [9, 12, 22, 30, 35]),
    Case(
        "HeadraceSheddingLoad",
        "one in eleven is",
        failing("RESOURCE_EXHAUSTED", "OVERLOADED"),
        [59, 65, 135],
        [90, 119],
    ),
    Case(
        "HeadraceSheddingLoad",
        "callers call too often",
        failing("RESOURCE_EXHAUSTED", "RATE_LIMITED"),
        [59, 90, 119, 135],
    ),
    Case(
        "HeadraceSheddingLoad",
        "one in six hundred is",
        failing("RESOURCE_EXHAUSTED", "OVERLOADED", (0, 60), (1, 60), (0, 60)),
        [59, 90, 119, 135],
    ),
    Case(
        "HeadraceCertificateExpiring",
        "six days are left, and it is made anew",
        {ENDS: level((6 * 86_400, 20), (90 * 86_400, 20))},
        [20, 30],
        [5, 19],
        OF_SERVER,
    ),
    Case("HeadraceCertificateExpiring", "eight days are left", {ENDS: level((8 * 86_400, 20))}, [5, 19], labels=""),
    Case(
        "HeadraceCertificateExpiresNow",
        "an hour is left, and it is made anew",
        {ENDS: level((3_600, 20), (90 * 86_400, 20))},
        [20, 30],
        [5, 19],
        OF_SERVER,
    ),
    Case("HeadraceCertificateExpiresNow", "two days are left", {ENDS: level((2 * 86_400, 20))}, [5, 19], labels=""),
    Case(
        "HeadraceKeysStale",
        "the issuer is down for two hours",
        {AGE: f"0+60x120 {level((0, 20))}"},
        [30, 60, 122],
        [65, 119],
        OF_ISSUER,
    ),
    Case("HeadraceKeysStale", "for half an hour", {AGE: f"0+60x30 {level((0, 90))}"}, [30, 60, 119], labels=""),
    Case(
        "HeadraceNoKeys",
        "a gateway has none",
        {KEYS: level((2, 10), (0, 10), (2, 10))},
        [9, 10, 20],
        [12, 19],
        OF_ISSUER,
    ),
    Case("HeadraceNoKeys", "it has one", {KEYS: level((2, 10), (1, 20))}, [9, 12, 29], labels=""),
    Case("HeadraceNoGateway", "the only one is gone", {READY: "1x9 stale _x9 1x10"}, [5, 9, 10, 21], [13, 18], ""),
    Case(
        "HeadraceNoGateway",
        "the only one is not ready",
        {READY: level((1, 10), (0, 10), (1, 10))},
        [9, 10, 20],
        [12, 19],
        "",
    ),
    Case(
        "HeadraceNoGateway",
        "one of two is gone",
        {READY: "1x9 stale", 'headrace_ready{job="headrace-gateway", instance="other:9090"}': level((1, 30))},
        [5, 13, 29],
        labels="",
    ),
    Case(
        "HeadraceGatewayDown",
        "it does not answer",
        {GATEWAY_UP: level((1, 10), (0, 20), (1, 10))},
        [9, 15, 31],
        [25, 29],
        OF_GATEWAY,
    ),
    Case(
        "HeadraceGatewayDown",
        "it is not ready",
        {READY: level((1, 10), (0, 20), (1, 10))},
        [9, 15, 31],
        [25, 29],
        OF_GATEWAY,
    ),
    Case(
        "HeadraceGatewayDown",
        "it starts anew",
        {READY: level((1, 10), (0, 5), (1, 25))},
        [9, 12, 14, 25, 39],
        labels="",
    ),
    Case(
        "HeadraceConfigRefused",
        "the file is wrong, and mended",
        {REFUSED: level((0, 10), (1, 10), (0, 10))},
        [9, 10, 20],
        [12, 19],
        OF_GATEWAY,
    ),
    Case(
        "HeadraceConfigRefused",
        "configurations change",
        {REFUSED: level((0, 30)), gauge("headrace_config_generation"): "1+1x30"},
        [9, 12, 29],
        labels="",
    ),
    Case(
        "HeadraceTelemetryDropped",
        "the collector is down",
        {DROPPED: counter((0, 10), (100, 20), (0, 20))},
        [9, 15, 40],
        [25, 29],
        'headrace_signal="spans"',
    ),
    Case(
        "HeadraceTelemetryDropped",
        "for five minutes, long ago",
        {DROPPED: counter((0, 10), (100, 5), (0, 40))},
        [9, 15, 25, 40],
        labels="",
    ),
    Case(
        "HeadraceAuditFailing",
        "the disk is full, and has room again",
        {AUDIT: level((0, 10), (1, 10), (0, 10))},
        [9, 10, 20],
        [12, 19],
        OF_GATEWAY,
    ),
    Case(
        "HeadraceAuditFailing",
        "lines are lost of something else",
        {AUDIT: level((0, 30)), LINES: counter((9, 30))},
        [9, 12, 29],
        labels="",
    ),
]
