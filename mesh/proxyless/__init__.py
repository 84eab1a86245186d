"""Istio's resources compiled for gRPC's own xDS client, as Istio's control plane does it: callers without a sidecar."""
