"""The aggregated discovery service: what was compiled, served to clients that ask for it by name."""
