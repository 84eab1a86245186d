"""Prometheus's own messages, from its .proto file."""
