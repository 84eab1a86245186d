"""What keeps a mesh from running. Law: the text is one sentence that says what to do."""

from __future__ import annotations


class MeshError(Exception):
    """The mesh on this machine cannot run, or cannot do what was asked."""


class PassingError(MeshError):
    """The same, for a reason that may pass by itself: it can be tried again."""
