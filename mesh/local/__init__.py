"""A mesh on one machine: Istio's resources run by real Envoys. Law: what a resource means is decided in `mesh.envoy`.

The way of a change: `follow` sees the folder change, `mesh.istio` reads it, `workloads` gives each process a sidecar
with an address of its own, `config` compiles what each sidecar shall do, `files` says in which files Envoy reads it,
and `delivery` puts them there in an order in which no call fails. `up` strings this together.
"""
