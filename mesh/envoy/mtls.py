"""PeerAuthentication: mutual TLS on the way in. Law: the narrowest policy with a mode holds; without one, PERMISSIVE.

Source: Istio's pilot/pkg/security/authn (ComposePeerAuthentication, BuildInboundTLS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mesh.envoy.proto import (
    DOWNSTREAM_TLS_CONTEXT,
    ROOT_CERTIFICATES,
    TLS_TRANSPORT_SOCKET,
    WORKLOAD_CERTIFICATE,
    Json,
    named,
    secret,
)
from mesh.istio.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from mesh.istio.selector import Workload
from mesh.istio.world import World

_CIPHERS: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)


@dataclass(frozen=True)
class Modes:
    """A workload's mode for every port: DISABLE, PERMISSIVE or STRICT. `ports` are those with a word of their own."""

    otherwise: MutualTLSMode
    ports: Mapping[int, MutualTLSMode]

    def of(self, port: int) -> MutualTLSMode:
        """The mode of a port."""
        return self.ports.get(port, self.otherwise)


def modes(world: World, workload: Workload) -> Modes:
    """What holds for a workload: the mesh's policy, the namespace's over it, the workload's own over both.

    Of several policies of one width the oldest holds. In the root namespace a selector makes a policy no one's.
    """
    root = world.mesh.root_namespace
    mesh: PeerAuthentication | None = None
    namespace: PeerAuthentication | None = None
    own: PeerAuthentication | None = None
    for policy in world.peer_authentications(workload):
        selecting = policy.spec.selector is not None and policy.spec.selector.labels
        if not selecting and policy.namespace == root:
            mesh = mesh or policy.spec
        elif not selecting:
            namespace = namespace or policy.spec
        elif policy.namespace != root:
            own = own or policy.spec
    mode = MutualTLSMode.PERMISSIVE
    for one in (mesh, namespace, own):
        mode = _or(one.mtls if one else None, mode)
    return Modes(mode, {port: _or(mtls, mode) for port, mtls in own.port_level_mtls.items()} if own else {})


@dataclass(frozen=True)
class _Namespace:
    """A workload that no selector names."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)


def namespace_mode(world: World, namespace: str) -> MutualTLSMode:
    """What holds for a namespace as a whole, as callers of its services see it."""
    return modes(world, _Namespace(namespace)).otherwise


def transport_socket(world: World) -> Json:
    """TLS that asks the caller for a certificate of the mesh's trust domain."""
    validation: Json = {
        "default_validation_context": {
            "match_subject_alt_names": [{"prefix": f"spiffe://{world.mesh.trust_domain}/"}],
        },
        "validation_context_sds_secret_config": secret(ROOT_CERTIFICATES),
    }
    common: Json = {
        "alpn_protocols": ["h2", "http/1.1"],
        "combined_validation_context": validation,
        "tls_certificate_sds_secret_configs": [secret(WORKLOAD_CERTIFICATE)],
        "tls_params": {
            "cipher_suites": list(_CIPHERS),
            "tls_maximum_protocol_version": "TLSv1_3",
            "tls_minimum_protocol_version": "TLSv1_2",
        },
    }
    return named(
        TLS_TRANSPORT_SOCKET, DOWNSTREAM_TLS_CONTEXT, common_tls_context=common, require_client_certificate=True
    )


def _or(mtls: MutualTLS | None, wider: MutualTLSMode) -> MutualTLSMode:
    return wider if mtls is None or mtls.mode is MutualTLSMode.UNSET else mtls.mode
