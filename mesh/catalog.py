"""The catalog: which models exist, in which versions, and by what name the mesh knows them.

Law: the one place that knows models. Everything else asks the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from protos.names import MODEL_NAME, VERSION
from protos.units import Address, Duration, Size


class Frozen(BaseModel):
    """A piece of configuration: read once, never changed, and with no key that nothing reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
_ASKED = re.compile(f"{VERSION.pattern}|{_ALIAS.pattern}")

RetryOn = Literal["unavailable", "reset", "refused-stream", "connect-failure", "resource-exhausted", "cancelled"]


def well_formed_version(asked: str) -> bool:
    """Whether a caller's `model_version` could name a version (a positive integer) or an alias at all."""
    return _ASKED.fullmatch(asked) is not None


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _named(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no {what}")
        return value

    return AfterValidator(check)


def _percent(value: object) -> float:
    match = re.fullmatch(r"(\d{1,3})%", value) if isinstance(value, str) else None
    if match is None or not 0 < int(match[1]) <= 100:
        raise ValueError(f"{value!r} is no share, as in 20%")
    return int(match[1]) / 100


def written_share(value: float) -> str:
    """0.2 -> `20%`."""
    return f"{round(value * 100)}%"


SHARE: Final[Mapping[str, Any]] = {"type": "string", "pattern": r"^\d{1,3}%$", "examples": ["20%"]}
"""How it is written, as JSON schema."""

Share = Annotated[
    float,
    BeforeValidator(_percent),
    PlainSerializer(written_share, return_type=str),
    WithJsonSchema(dict(SHARE), mode="validation"),
]
"""`20%`, held as 0.2; more than nothing."""


def _none_is_empty(value: object) -> object:
    return {} if value is None else value


_LABELS: Final[Mapping[str, Any]] = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}
Labels = Annotated[dict[str, str], BeforeValidator(_none_is_empty), WithJsonSchema(dict(_LABELS), mode="validation")]

ModelName = Annotated[str, _named(MODEL_NAME, "model name (letters, digits, '.', '_' and '-')")]
VersionName = Annotated[str, _named(VERSION, "version (a positive integer, in quotes)")]
AliasName = Annotated[str, _named(_ALIAS, "alias (a letter, then letters, digits, '.', '_' and '-')")]


class Retries(Frozen):
    """How often a failed infer or inspect call is tried again, for which failures, and how long one try may take.

    `budget` is the most that retries may add to the calls; null is no bound.
    """

    attempts: int = Field(default=2, ge=0, le=4)
    per_try: Duration | None = None
    on: tuple[RetryOn, ...] = ("unavailable", "reset", "refused-stream", "connect-failure")
    budget: Share | None = 0.2


class Breaker(Frozen):
    """The most calls of one gateway that a version's copies may have at a time, and that may wait for a connection.

    What is over is refused at once. The defaults are Envoy's; `pending` null is no bound.
    """

    requests: int = Field(default=1024, ge=1, le=2**31 - 1)
    pending: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = 1024


class Ejection(Frozen):
    """A copy that fails `errors` times in a row gets no calls for `time`, then for twice as long, and so on.

    What is counted is, with `gateway`, that it does not answer, in time, or says UNAVAILABLE; with `5xx`, as Istio does
    by itself, also INTERNAL, UNKNOWN, DATA_LOSS and UNIMPLEMENTED, which some models say to bad requests. Copies are
    looked at every `interval`; at `most` this share of a version's copies is out at a time.
    """

    errors: int = Field(default=5, ge=1, le=2**31 - 1)
    count: Literal["5xx", "gateway"] = "5xx"
    interval: Annotated[Duration, Field(ge=0.001)] = 1.0
    time: Annotated[Duration, Field(ge=0.001)] = 5.0
    most: Share = 0.5


class Admission(Frozen):
    """How many calls a gateway process lets run at a time; found out by how long they queue.

    `floor` is how many the model's copies can work on at a time, so that none queues, `ceiling` the most there may be;
    `queue` is how much longer a call may take than one that does not queue.
    """

    floor: Annotated[int, Field(ge=1, le=65535)] = 4
    ceiling: Annotated[int, Field(ge=1, le=65535)] = 1024
    queue: Annotated[Duration, Field(ge=0.001)] = 0.1

    def mistakes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What does not fit together: (where, what)."""
        if self.floor > self.ceiling:
            yield ("floor",), f"{self.floor} is over the ceiling, {self.ceiling}"


class Shadow(Frozen):
    """A version that gets a copy of this share of the unpinned calls; what it answers reaches no one."""

    version: VersionName
    share: Share = 1.0


class Sequences(Frozen):
    """The model keeps state between the calls of a sequence, each of which stays with one version and one copy.

    A gateway forgets which version that is once a sequence has been silent for `idle`; no worker should keep a silent
    one for longer (`max_sequence_idle_microseconds`).
    """

    idle: Annotated[Duration, Field(ge=0.001)] = 60.0


def _sequences(value: object) -> object:
    """`true` is all as it is unless something is said; `false` is none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class Model(Frozen):
    """One model as callers know it.

    `host` is what the mesh knows its service by, and `workload` the labels of every copy behind it (unsaid: `app`, the
    host's first label); `versions` gives each version the labels of its own copies among these (no labels: the versions
    share their copies); `traffic` the weights, adding up to 100, of calls that pin no version. `copies` is for a mesh:
    how many a version has, which have their numbers as labels, so that every one of them can be called. Calls of one
    sequence of a model with `sequence` go to one version and copy, and are not retried. With `admission`, calls are
    turned away before they queue for long. With `timeout_parameter`, requests tell how long they may take in Triton's
    parameter `timeout`.
    """

    name: ModelName
    host: Address
    workload: dict[str, str] = {}
    versions: dict[VersionName, Labels] = Field(min_length=1)
    aliases: dict[AliasName, VersionName] = {}
    traffic: dict[VersionName, Annotated[int, Field(ge=0, le=100)]] = {}
    copies: dict[VersionName, Annotated[int, Field(ge=1, le=64)]] = {}
    shadow: Shadow | None = None
    timeout: Duration = 30.0
    max_request: Size = 64 * 1024**2
    retries: Retries = Retries()
    breaker: Breaker = Breaker()
    ejection: Ejection | None = Ejection()
    admission: Admission | None = None
    timeout_parameter: bool = False
    sequence: Annotated[Sequences | None, BeforeValidator(_sequences)] = None
    forward_token: bool = False

    def mistakes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What does not fit together: (where in the model, what). Whoever reads a model asks for these."""
        for alias, version in self.aliases.items():
            if version not in self.versions:
                yield ("aliases", alias), f"{alias} names version {version}, which is not among the versions"
        for key, named in (("traffic", self.traffic), ("copies", self.copies)):
            for version in named.keys() - self.versions.keys():
                yield (key, version), f"version {version} is not among the versions"
        if self.traffic and sum(self.traffic.values()) != 100:
            yield ("traffic",), f"the weights add up to {sum(self.traffic.values())}, not 100"
        if not self.traffic and len(self.versions) > 1:
            yield (), "several versions need traffic: how the calls that name none are shared among them"
        if self.shadow is not None:
            yield from self._mistakes_in(self.shadow)
        if self.timeout <= 0:
            yield ("timeout",), "must be more than nothing"
        yield from ((("admission", *place), what) for place, what in (self.admission or Admission()).mistakes())
        if self.sequence and "retries" in self.model_fields_set and self.retries.attempts:
            yield ("retries", "attempts"), "must be 0: a sequence's call that is tried again would run twice"

    def _mistakes_in(self, shadow: Shadow) -> Iterator[tuple[tuple[str, ...], str]]:
        if shadow.version not in self.versions:
            yield ("shadow", "version"), f"version {shadow.version} is not among the versions"
        elif self.shares_copies(shadow.version):
            yield ("shadow", "version"), f"version {shadow.version} has no copies of its own to send copies of calls to"

    @cached_property
    def weights(self) -> tuple[tuple[str, int], ...]:
        """(version, weight) of the versions that unpinned calls reach; the weights add up to 100."""
        if not self.traffic:
            return ((next(iter(self.versions)), 100),)
        return tuple((version, weight) for version, weight in self.traffic.items() if weight)

    def resolve(self, asked: str) -> str | None:
        """The version that a version or alias names, or None."""
        return asked if asked in self.versions else self.aliases.get(asked)

    @cached_property
    def tries(self) -> int:
        """How often a call may be tried again."""
        return 0 if self.sequence else self.retries.attempts

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The labels of every copy behind the host."""
        return self.workload or {"app": self.host.partition(".")[0].partition(":")[0]}

    def shares_copies(self, version: str) -> bool:
        """Whether the version has no copies of its own, so that a call must name it to reach it."""
        return not self.versions[version]


class GatewayWorkload(Frozen):
    """Who the gateway is to the mesh; `service`, `port` and `asked` (by the express lane) are what it is called by."""

    namespace: str = "infer"
    service_account: str = "gateway"
    labels: dict[str, str] = Field(default={"app": "gateway"}, min_length=1)
    service: str = "gateway"
    port: int = Field(default=8080, ge=1, le=65535)
    asked: int = Field(default=8081, ge=1, le=65535)

    @property
    def host(self) -> str:
        """The full name of its service."""
        return f"{self.service}.{self.namespace}.svc.cluster.local"


class Ingress(Frozen):
    """Istio's ingress gateway that runs the express lane: who it is to the mesh, and where callers come in.

    `port` is that of the workload, not of its service; unsaid, the one that Istio's own listens on, with TLS or
    without. `credential` is the secret, beside the workload, of the certificate that callers see (without it they come
    in plain text); `client_ca`: it also holds the one that must have signed theirs.
    """

    namespace: str = "istio-system"
    service_account: str = "istio-ingressgateway-service-account"
    labels: dict[str, str] = Field(default={"istio": "ingressgateway"}, min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    credential: str | None = None
    client_ca: bool = False

    @property
    def listens(self) -> int:
        """The port that the workload listens on."""
        return self.port or (8443 if self.credential else 8080)


class Mesh(Frozen):
    """What the resources of the whole mesh are written with."""

    gateway: GatewayWorkload = GatewayWorkload()
    ingress: Ingress = Ingress()
    trust_domain: str = "cluster.local"


Catalog = Mapping[str, Model]
