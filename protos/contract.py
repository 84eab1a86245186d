"""What gateway, mesh and callers agree on by name. Law: such a word is spelled here, and nowhere else.

Headers are those that the gateway writes of every call, whatever the caller sent.
"""

from __future__ import annotations

from typing import Final

SERVICE: Final = "inference.GRPCInferenceService"
SAMPLED_KEY: Final = "x-headrace-sampled"
"""Metadata by which the express lane hands over a call that it has drawn for a trace."""
LEARN_KEY: Final = "x-headrace-learn"
"""Metadata by which the express lane asks to be taught."""
LESSON_KEY: Final = "x-headrace-permit"
"""Metadata of an answer that teaches it."""
GENERATION_KEY: Final = "x-headrace-generation"
"""Metadata that tells it what lessons rest on."""
PEER_KEY: Final = "x-headrace-peer"
"""Metadata by which the Envoy in front tells who has called it."""
COPIES_KEY: Final = "x-headrace-copies"
"""Metadata of an answer that several copies gave: how many of how many, `2/3`; `1/?` where the mesh chose one."""
COPY: Final = "x-headrace-copy"
"""Metadata of a call that one copy of a version must get: the number in its label COPY_LABEL."""
COPY_LABEL: Final = "apps.kubernetes.io/pod-index"
"""The label that Kubernetes gives the pods of a StatefulSet: 0, 1, and so on."""
PYTHON_LANE: Final = "python"
EXPRESS_LANE: Final = "express"
"""By which of its two ways a call went: what spans, lines and metrics say as `headrace.lane`."""
MODEL_NAME: Final = "x-model-name"
MODEL_VERSION: Final = "x-model-version"
"""Of a call whose version is pinned."""
SEQUENCE_ID: Final = "x-sequence-id"
"""Of a call of a model that keeps state."""
