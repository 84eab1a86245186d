"""A resource: what every kind has, and the kind's own words. Law: a resource is read whole, or refused by its name.

Kinds, fields and values that are not implemented are refused; so are Istio's own labels and annotations, each of which
changes what a resource means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import Field, ValidationError

from mesh.istio.authorization_policy import AuthorizationPolicy
from mesh.istio.destination_rule import DestinationRule
from mesh.istio.document import Document, RefusedError
from mesh.istio.message import Message, Mistake, Place, mistakes_of
from mesh.istio.names import DnsLabel, Subdomain
from mesh.istio.peer_authentication import PeerAuthentication
from mesh.istio.request_authentication import RequestAuthentication
from mesh.istio.selector import Exported
from mesh.istio.service_entry import ServiceEntry
from mesh.istio.sidecar import Sidecar
from mesh.istio.telemetry import Telemetry
from mesh.istio.values import Labels
from mesh.istio.virtual_service import VirtualService
from mesh.istio.workload_entry import WorkloadEntry

_NETWORKING: Final = tuple(f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3"))
_SECURITY: Final = tuple(f"security.istio.io/{version}" for version in ("v1", "v1beta1"))
_TELEMETRY: Final = tuple(f"telemetry.istio.io/{version}" for version in ("v1", "v1alpha1"))

KINDS: Final[Mapping[str, tuple[type[Message], tuple[str, ...]]]] = {
    "VirtualService": (VirtualService, _NETWORKING),
    "DestinationRule": (DestinationRule, _NETWORKING),
    "ServiceEntry": (ServiceEntry, _NETWORKING),
    "WorkloadEntry": (WorkloadEntry, _NETWORKING),
    "Sidecar": (Sidecar, _NETWORKING),
    "PeerAuthentication": (PeerAuthentication, _SECURITY),
    "AuthorizationPolicy": (AuthorizationPolicy, _SECURITY),
    "RequestAuthentication": (RequestAuthentication, _SECURITY),
    "Telemetry": (Telemetry, _TELEMETRY),
}
"""Kind -> (type of its spec, the API versions that may name it)."""

_SERVER_WRITES: Final = frozenset({
    "uid", "resourceVersion", "generation", "managedFields", "selfLink", "ownerReferences", "finalizers",
})  # fmt: skip

Spec_co = TypeVar("Spec_co", bound=Message, covariant=True)


class Metadata(Message):
    """What names a resource. `creation_timestamp` (RFC 3339, empty: none) orders resources that compete."""

    name: Subdomain
    namespace: DnsLabel = "default"
    labels: Labels = Field(default_factory=dict)
    annotations: Mapping[str, str] = {}
    creation_timestamp: str = ""

    def mistakes(self) -> Iterator[Mistake]:
        """Labels and annotations that mean something to Istio."""
        for field, pairs in (("labels", self.labels), ("annotations", self.annotations)):
            for key in pairs:
                domain = key.partition("/")[0] if "/" in key else ""
                if domain == "istio.io" or domain.endswith(".istio.io"):
                    yield (field, key), "not implemented"


@dataclass(frozen=True)
class Resource(Generic[Spec_co]):
    """One resource. `position` is `FILE:LINE` of its document."""

    kind: str
    metadata: Metadata
    spec: Spec_co
    position: str

    @property
    def name(self) -> str:
        """Its name in its namespace."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.metadata.namespace

    @property
    def title(self) -> str:
        """KIND NAMESPACE/NAME."""
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def age(self) -> tuple[str, str, str]:
        """What orders resources that compete: the oldest first, then by name and namespace."""
        return self.metadata.creation_timestamp, self.name, self.namespace


def read_resources(documents: Iterable[Document]) -> tuple[Resource[Message], ...]:
    """Every resource. Raises RefusedError with all mistakes of all documents; no resource may be there twice."""
    resources: list[Resource[Message]] = []
    mistakes: list[str] = []
    seen: dict[tuple[str, str, str], str] = {}
    for document in documents:
        try:
            resource = read_resource(document)
        except RefusedError as refused:
            mistakes += refused.mistakes
            continue
        key = (resource.kind, resource.namespace, resource.name)
        if key in seen:
            what = f"{resource.title}: is there twice, first at {seen[key]}"
            mistakes.append(f"{resource.position}: {what}")
        seen.setdefault(key, resource.position)
        resources.append(resource)
    if mistakes:
        raise RefusedError(mistakes)
    return tuple(resources)


def read_resource(document: Document) -> Resource[Message]:
    """One resource. Raises RefusedError with all its mistakes."""
    kind, spec_type = _kind(document)
    for key in document.data:
        if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
            raise _refused(document, kind, [((key,), "unknown field")])
    written = document.data.get("metadata")
    if isinstance(written, dict):
        written = {key: value for key, value in written.items() if key not in _SERVER_WRITES}
    metadata = _read(document, kind, Metadata, "metadata", {} if written is None else written)
    written = document.data.get("spec")
    spec = _read(document, kind, spec_type, "spec", {} if written is None else written)
    mistakes = [
        *mistakes_of(metadata, ("metadata",)),
        *mistakes_of(spec, ("spec",)),
    ]
    if isinstance(spec, Exported):
        mistakes += [(("spec", *where), what) for where, what in spec.mistakes_in(metadata.namespace)]
    if mistakes:
        raise _refused(document, kind, mistakes)
    return Resource(kind, metadata, spec, document.position())


def _kind(document: Document) -> tuple[str, type[Message]]:
    kind, version = document.data.get("kind"), document.data.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str):
        raise RefusedError([f"{document.position()}: not a resource: apiVersion and kind are missing"])
    if kind not in KINDS:
        raise _refused(document, kind, [(("kind",), f"not implemented: {version} {kind}")])
    spec_type, versions = KINDS[kind]
    if version not in versions:
        raise _refused(document, kind, [(("apiVersion",), f"{version!r} is none of {', '.join(versions)}")])
    return kind, spec_type


ReadMessage = TypeVar("ReadMessage", bound=Message)


def _read(document: Document, kind: str, of: type[ReadMessage], section: str, data: object) -> ReadMessage:
    try:
        return of.read(data)
    except ValidationError as error:
        raise _refused(document, kind, [((section, *where), what) for where, what in words(error)]) from None


_WORDS: Final = {
    "extra_forbidden": "unknown field",
    "missing": "is missing",
    "string_type": "must be a text (in quotes, where YAML would read something else)",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
}


def words(error: ValidationError) -> Iterator[Mistake]:
    """What pydantic found wrong, in our words."""
    for one in error.errors(include_url=False):
        said = _WORDS.get(one["type"]) or one["msg"].removeprefix("Value error, ")
        place: Place = tuple(step for step in one["loc"] if step != "[key]")
        yield place, said


def _refused(document: Document, kind: str, mistakes: Iterable[Mistake]) -> RefusedError:
    written: Any = document.data.get("metadata")
    meta = written if isinstance(written, dict) else {}
    name = f"{kind} {meta.get('namespace') or 'default'}/{meta.get('name') or '(no name)'}"
    return RefusedError([f"{document.position(where)}: {name}: {path(where)}: {what}" for where, what in mistakes])


def path(place: Place) -> str:
    """A place as people write it: `spec.http[0].route`."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
