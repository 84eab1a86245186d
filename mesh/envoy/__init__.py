"""Istio's resources compiled for Envoy, as Istio's own control plane does it."""
