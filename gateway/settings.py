"""What can be configured. Law: read once, into frozen values; a key that nothing reads is a mistake.

`load` finds every mistake it can, not only the first, and names the line of each. Files are sought from the folder of
the configuration.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo, WithJsonSchema
from pydantic_core import ErrorDetails

from gateway import direct, proxyless
from gateway.access_log import STDOUT
from gateway.configfile import Place, SettingsError, read
from gateway.jwks import is_safe_url
from gateway.jws import ALGORITHMS
from gateway.keys import parse_jwks
from gateway.rpcs import Action
from mesh.catalog import Catalog, Frozen, Mesh, Model
from protos.log_settings import Form, Logs
from protos.units import Address, Duration, PerSecond, Size

__all__ = [
    "Audit",
    "Grant",
    "Issuer",
    "Limits",
    "Listen",
    "Settings",
    "SettingsError",
    "Telemetry",
    "Tls",
    "Upstream",
    "load",
]

_FILE: Final = "file:"


def _fetchable(value: str, info: ValidationInfo) -> str:
    if value.startswith(_FILE):
        path = _present(Path(value.removeprefix(_FILE)), info)
        parse_jwks(path.read_bytes())
        return f"{_FILE}{path}"
    if is_safe_url(value):
        return value
    raise ValueError(f"neither an https URL (http only on this machine, and never with a password) nor {_FILE}PATH")


def _issuer(value: str) -> str:
    if not value:
        raise ValueError("an issuer has a name")
    return value


def _algorithm(value: str) -> str:
    if value not in ALGORITHMS:
        raise ValueError(f"{value!r} is none of {', '.join(ALGORITHMS)} (asymmetric algorithms only)")
    return value


def _pattern(value: str) -> str:
    if not value or "*" in value[:-1]:
        raise ValueError(f"{value!r} is no pattern: * may stand at the end alone")
    return value


def _otlp(value: str) -> str:
    parts = urlsplit(value)
    rest = (parts.path.strip("/"), parts.query, parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or any(rest):
        raise ValueError("no OTLP/gRPC endpoint, as in http://127.0.0.1:4317")
    return value


def _present(value: Path, info: ValidationInfo) -> Path:
    """The file, sought from the folder of the configuration."""
    path = Path(info.context["folder"], value) if info.context else value
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _appendable(value: Path, info: ValidationInfo) -> Path:
    """The file, sought as others are, but it may be made later; or standard output."""
    if value == STDOUT:
        return value
    named = Path(info.context["folder"], value) if info.context else value
    if named.exists() and not named.is_file():
        raise ValueError(f"{value} is no regular file; write {STDOUT} for standard output")
    path = named.resolve()
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written")
    return path


def _auditable(value: Path, info: ValidationInfo) -> Path:
    """As `_appendable`, but it is read, too, and put aside in its folder."""
    if value == STDOUT:
        raise ValueError("the audit is a file: each line follows from the one before, which is read")
    if Path(info.context["folder"] if info.context else "", value).is_dir():
        raise ValueError(f"{value} is a folder")
    path = _appendable(value, info)
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path.parent} cannot be written, where full files are put aside")
    if path.exists() and not os.access(path, os.R_OK):
        raise ValueError(f"{path} cannot be read")
    return path


Pattern = Annotated[str, AfterValidator(_pattern)]
File = Annotated[Path, AfterValidator(_present)]
Claim = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")]


class Tls(Frozen):
    """PEM files of the public address; `client_ca` makes callers show a certificate that it signed."""

    certificate: File
    key: File
    client_ca: File | None = None


def unusable(tls: Tls) -> Iterator[tuple[Place, str]]:
    """What is wrong with the files: (which, what)."""
    try:
        certificate = x509.load_pem_x509_certificates(tls.certificate.read_bytes())[0]
        key = load_pem_private_key(tls.key.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield (), "certificate and key must be PEM, the key without a password"
        return
    if key.public_key() != certificate.public_key():
        yield ("key",), "the key is not the certificate's"
    if tls.client_ca is not None:
        try:
            x509.load_pem_x509_certificates(tls.client_ca.read_bytes())
        except ValueError:
            yield ("client_ca",), "not PEM certificates"


def _switch(value: object) -> object:
    """`true` and `false` mean the same."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Listen(Frozen):
    """Where callers come in (gRPC), where operators look (HTTP), and how it closes.

    `notice`: how long health says NOT_SERVING before new calls are refused; `drain`: how long running calls may take.
    `express`: whether an Envoy is in front, that carries what it has seen decided; `auto` where there is one to run;
    `external` where it is not ours to run: Istio's ingress gateway (`headrace mesh render --express`), which asks at
    `asked` whether what it was taught still holds. `processes`: how many, of a core each, share the calls that the
    Envoy in front does not carry.
    """

    address: Address = "127.0.0.1:8080"
    asked: Address = "127.0.0.1:8081"
    admin: Address | None = "127.0.0.1:9090"
    tls: Tls | None = None
    notice: Duration = 0.5
    drain: Duration = 25.0
    express: Annotated[Literal["auto", "on", "off", "external"], BeforeValidator(_switch)] = "auto"
    processes: Annotated[int, Field(ge=1, le=64)] = 1


class Issuer(Frozen):
    """Whose tokens are good. Without `jwks` the keys are found by OpenID discovery at the issuer.

    `refresh` is how often the keys are asked for anew.
    """

    issuer: Annotated[str, AfterValidator(_issuer)]
    audiences: Annotated[tuple[str, ...], Field(min_length=1)]
    jwks: Annotated[str, AfterValidator(_fetchable)] | None = Field(default=None, repr=False)
    algorithms: Annotated[tuple[Annotated[str, AfterValidator(_algorithm)], ...], Field(min_length=1)]
    leeway: Duration = 30.0
    refresh: Annotated[Duration, Field(ge=1)] = 300.0


class To(Frozen):
    """Whom a grant is for: an issuer's callers, all of whose named claims match."""

    issuer: str
    claims: dict[str, Pattern] = Field(default_factory=dict)


class Limits(Frozen):
    """What each caller may have of each model, unsaid: without a limit; of several grants the largest counts.

    `rate`: calls, `burst` of them at once after a while without (unsaid: what a second gives); `concurrency`: calls at
    a time; `request`: bytes of a message; `priority`: the best level that its calls get, as Triton counts: 1 is first.
    """

    rate: PerSecond | None = None
    burst: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=65535)] | None = None
    request: Size | None = None
    priority: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1


class Grant(Frozen):
    """What the callers whom it is for may do with which models, and how much of it.

    `name` is what metrics, traces and logs call it; unsaid, it is made of the claims.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/=*@,+~-]{1,64}$")] | None = None
    to: To
    models: Annotated[tuple[Pattern, ...], Field(min_length=1)]
    actions: Annotated[tuple[Action, ...], Field(min_length=1)]
    limits: Limits = Limits()


def _addresses(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_ONE_OR_SEVERAL: Final[Mapping[str, Any]] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(_addresses),
    Field(min_length=1),
    WithJsonSchema(dict(_ONE_OR_SEVERAL), mode="validation"),
]


class Upstream(Frozen):
    """How the workers are reached.

    `direct`: gRPC itself dials `endpoints`, model -> version -> addresses. `mesh`: through the sidecar at `proxy`, or,
    without one, by calls that the mesh captures. `xds`: by gRPC's own xDS client, which cannot do all that a model may
    ask of a mesh (`gateway.proxyless`). In a mesh `endpoints` say where copies listen on this machine, for `headrace
    mesh render` to tell the mesh.
    """

    mode: Literal["direct", "mesh", "xds"] = "direct"
    proxy: Address | None = None
    endpoints: dict[str, dict[str, Addresses]] = Field(default_factory=dict)


class Telemetry(Frozen):
    """Where spans go (OTLP/gRPC), what share of the traces that begin here, and under which service name.

    What fails, or takes `slow` or longer, is kept whatever the share. `claims`: those of a caller's token that spans
    tell, where they are words or numbers. `access_log`: the file that gets a line for each call, `-` for standard
    output; without it there are none. `logs`: whether the lines of the log go there, too; `log_format`: how they look
    on standard error, where `auto` is JSON, but text on a terminal. `metrics`: whether anything is counted, for
    /metrics and, with `otlp`, to be sent there.
    """

    otlp: Annotated[str, AfterValidator(_otlp)] | None = None
    sample: Annotated[float, Field(ge=0, le=1)] = 0.1
    slow: Annotated[Duration, Field(gt=0)] = 1.0
    claims: Annotated[tuple[Claim, ...], Field(max_length=16)] = ()
    service: Annotated[str, Field(min_length=1)] = "headrace-gateway"
    access_log: Annotated[Path, AfterValidator(_appendable)] | None = None
    metrics: bool = True
    logs: bool = True
    log_format: Form = "auto"

    @property
    def log(self) -> Logs:
        """Where the lines of the log go."""
        return Logs(self.service, self.log_format, self.otlp if self.logs else None)


class Audit(Frozen):
    """Where the audit is written, and of which share of allowed inference; of all else each call has its line.

    `on_failure`: whether calls go on where it cannot be written, or are refused. A file of `rotate` bytes is put aside,
    under another name in the same folder, and of those the last `keep` are kept; 0: all.
    """

    file: Annotated[Path, AfterValidator(_auditable)]
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    on_failure: Literal["continue", "refuse"] = "continue"
    rotate: Annotated[Size, Field(ge=4096)] = 100 * 1024 * 1024
    keep: Annotated[int, Field(ge=0)] = 0


class Settings(Frozen):
    """All of `headrace.yaml`."""

    listen: Listen = Listen()
    issuers: Annotated[tuple[Issuer, ...], Field(min_length=1)]
    grants: tuple[Grant, ...] = ()
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    upstream: Upstream
    mesh: Mesh = Mesh()
    telemetry: Telemetry = Telemetry()
    audit: Audit | None = None

    @property
    def catalog(self) -> Catalog:
        """The models by name."""
        return {model.name: model for model in self.models}

    @property
    def front(self) -> Literal["none", "if there", "needed"]:
        """Whether an Envoy of ours is to be in front."""
        if self.listen.express in ("off", "external") or self.upstream.mode == "xds":
            return "none"
        return "needed" if self.listen.express == "on" or self.listen.processes > 1 else "if there"

    @property
    def largest(self) -> int:
        """Bytes of the largest request that any model takes."""
        return max(model.max_request for model in self.models)


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in the file, with the environment's laid over. Raises SettingsError with every mistake."""
    file = read(path, environ, Settings.model_fields)
    try:
        settings = Settings.model_validate(file.data, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise SettingsError([file.mistake(_place(details), _told(details)) for details in _first_hand(error)]) from None
    mistakes = [file.mistake(place, what) for place, what in _incoherent(settings)]
    if mistakes:
        raise SettingsError(mistakes)
    if settings.upstream.mode == "xds":
        return settings.model_copy(update={"models": tuple(map(proxyless.carried_out, settings.models))})
    return settings


def _first_hand(error: ValidationError) -> list[ErrorDetails]:
    """The mistakes without those that only follow from others.

    A list is too short once its wrong items are gone, and a key is missing where it was misspelt.
    """
    found = error.errors()
    places = [details["loc"] for details in found]
    misspelt = {
        (*details["loc"][:-1], meant)
        for details in found
        if details["type"] == "extra_forbidden"
        for meant in difflib.get_close_matches(str(details["loc"][-1]), _keys_of(details["loc"][:-1]), n=1)
    }
    return [
        details
        for details in found
        if not (details["type"] == "too_short" and any(_below(place, details["loc"]) for place in places))
        and not (details["type"] == "missing" and details["loc"] in misspelt)
    ]


def _below(place: Place, other: Place) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _place(details: ErrorDetails) -> Place:
    """Where in the data, without pydantic's mark for the key of a mapping."""
    return tuple(step for step in details["loc"] if step != "[key]")


def _told(details: ErrorDetails) -> str:
    """What pydantic found, in our words."""
    match details["type"]:
        case "extra_forbidden":
            *section, key = details["loc"]
            return f"unknown key{_suggestion(str(key), _keys_of(tuple(section)))}"
        case "missing":
            return "is missing"
        case "string_type" if isinstance(details["input"], int | float):
            return f'must be text: write "{details["input"]}", in quotes'
        case "tuple_type":
            return "must be a list, as in [a, b]"
        case "dict_type" | "model_type":
            return "must be a mapping, as in {key: value}"
        case _:
            return details["msg"].removeprefix("Value error, ")


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _keys_of(section: Place) -> list[str]:
    """The keys that the section at that place may have."""
    model: type[BaseModel] = Settings
    for key in section:
        if key in model.model_fields:
            model = next(_models_in(model.model_fields[str(key)].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _incoherent(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What does not fit together: (place, what)."""
    if settings.listen.tls is not None:
        yield from ((("listen", "tls", *place), what) for place, what in unusable(settings.listen.tls))
    upstream = settings.upstream
    if settings.listen.express == "on" and upstream.mode == "xds":
        yield ("listen", "express"), "is not for the mode xds: gRPC's own client alone is told there where calls go"
    if settings.listen.processes > 1 and settings.front == "none":
        yield (
            ("listen", "processes"),
            "several take an Envoy in front, which shares calls among them: not with express off or external, or xds",
        )
    names = [model.name for model in settings.models]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("models", index, "name"), f"there is another model {name}"
        for place, what in _incoherent_model(settings.models[index], upstream):
            yield ("models", index, *place), what
    if settings.audit is not None and settings.audit.file == settings.telemetry.access_log:
        yield ("audit", "file"), "is the access log's"
    yield from _incoherent_access(settings)
    yield from ((("upstream", *place), what) for place, what in _incoherent_upstream(settings))


def _incoherent_model(model: Model, upstream: Upstream) -> Iterator[tuple[Place, str]]:
    """What does not fit in a model, or with how it is reached: (place in the model, what)."""
    yield from model.mistakes()
    if upstream.mode == "xds":
        yield from proxyless.mistakes(model)


def _incoherent_upstream(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What does not fit between the models and how they are reached: (place in upstream, what)."""
    upstream, catalog = settings.upstream, settings.catalog
    for name, versions in upstream.endpoints.items():
        if name not in catalog:
            yield ("endpoints", name), f"there is no model {name}{_suggestion(name, catalog)}"
            continue
        for version in versions.keys() - catalog[name].versions.keys():
            yield ("endpoints", name, version), f"model {name} has no version {version}"
    if upstream.mode == "direct":
        yield from ((("endpoints", *place), what) for place, what in direct.mistakes(catalog, upstream.endpoints))
    if upstream.proxy is not None and upstream.mode != "mesh":
        yield ("proxy",), "is for the mode mesh"


def _incoherent_access(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What does not fit among issuers and grants: (place, what)."""
    names = list(settings.catalog)
    issuers = [issuer.issuer for issuer in settings.issuers]
    for index, issuer in enumerate(issuers):
        if issuer in issuers[:index]:
            yield ("issuers", index, "issuer"), f"there is another issuer {issuer}"
        if settings.issuers[index].jwks is None and not is_safe_url(issuer):
            yield ("issuers", index), "without jwks the keys are found at the issuer, which must then be an https URL"
    for index, grant in enumerate(settings.grants):
        if grant.limits.burst is not None and grant.limits.rate is None:
            yield ("grants", index, "limits", "burst"), "bounds nothing without a rate, as in rate: 200/s"
        if grant.to.issuer not in issuers:
            yield ("grants", index, "to", "issuer"), f"{grant.to.issuer} is not among the issuers"
        for at, model in enumerate(grant.models):
            if not model.endswith("*") and model not in names:
                yield ("grants", index, "models", at), f"there is no model {model}{_suggestion(model, names)}"
