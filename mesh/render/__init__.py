"""Istio's resources from the catalog. Law: pure; the same catalog gives the same files, byte for byte.

`source` is what goes in, `files.render` what comes out (file name -> text); `folder` alone touches the disk. Between
them `services` says what stands behind each host, and one module for each concern writes its resources: `routes`,
`destination_rule`, `security`, `gateway`, `telemetry`; `workloads` for a mesh on one machine, `express` for a cluster's
ingress gateway.
"""
