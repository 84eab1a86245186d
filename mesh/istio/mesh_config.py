"""The mesh's own settings. Law: what is not written has Istio's default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from mesh.istio.message import Message
from mesh.istio.names import DnsLabel, Fqdn
from mesh.istio.values import Bool


def _off(value: object) -> object:
    if value is True:
        raise PydanticCustomError("not_implemented", "not implemented: true")
    return value


class MeshConfig(Message):
    """The part of Istio's MeshConfig that is implemented. Policies in `root_namespace` hold for the whole mesh."""

    root_namespace: DnsLabel = "istio-system"
    trust_domain: Fqdn = "cluster.local"
    enable_auto_mtls: Bool = True
    enable_tracing: Annotated[Literal[False], BeforeValidator(_off)] = False
