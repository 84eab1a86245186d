"""What keeps the gateway from starting. Law: whoever starts it tells the text, and nothing else."""

from __future__ import annotations


class StartError(Exception):
    """The gateway cannot start; the text is one sentence that says why."""
