"""Everything that knows Istio or Envoy, and the catalog of models that both the mesh and the gateway read."""
