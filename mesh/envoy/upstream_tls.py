"""TLS towards the copies. Law: as the rule says; unsaid, mutual TLS to every copy of the mesh that takes it.

Source: Istio's pilot/pkg/networking/core/cluster_tls.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.envoy.proto import (
    RAW_BUFFER,
    RAW_BUFFER_TRANSPORT_SOCKET,
    ROOT_CERTIFICATES,
    TLS_TRANSPORT_SOCKET,
    UPSTREAM_TLS_CONTEXT,
    WORKLOAD_CERTIFICATE,
    Json,
    named,
    secret,
)
from mesh.istio.destination_rule import ClientTLSSettings, TLSMode


def upstream_tls(
    settings: ClientTLSSettings | None, *, automatic: bool, sni: str, peers: Sequence[str], http2: bool
) -> Json:
    """The fields of a cluster that secure its connections.

    `automatic`: whether mutual TLS is possible where the rule says nothing. `peers`: the identities that copies may
    have, if the rule names none. `http2`: whether ALPN offers h2.
    """
    if settings is not None:
        if settings.mode is TLSMode.DISABLE:
            return {}
        names = settings.subject_alt_names or peers
        return {"transport_socket": _mutual_tls(settings.sni or sni, names, http2=http2)}
    if not automatic:
        return {}
    mutual: Json = {
        "name": "tlsMode-istio",
        "match": {"tlsMode": "istio"},
        "transport_socket": _mutual_tls(sni, peers, http2=http2),
    }
    plain: Json = {
        "name": "tlsMode-disabled",
        "match": {},
        "transport_socket": named(RAW_BUFFER_TRANSPORT_SOCKET, RAW_BUFFER),
    }
    return {"transport_socket_matches": [mutual, plain]}


def _mutual_tls(sni: str, names: Sequence[str], *, http2: bool) -> Json:
    exact = [{"exact": name} for name in names]
    validation: Json = {
        "default_validation_context": {"match_subject_alt_names": exact} if exact else {},
        "validation_context_sds_secret_config": secret(ROOT_CERTIFICATES),
    }
    common: Json = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [secret(WORKLOAD_CERTIFICATE)],
        "combined_validation_context": validation,
        "alpn_protocols": ["istio-peer-exchange", "istio", *(["h2"] if http2 else [])],
    }
    return named(TLS_TRANSPORT_SOCKET, UPSTREAM_TLS_CONTEXT, common_tls_context=common, sni=sni)
