"""A model's name as Kubernetes may write it. Law: two models never meet in one name."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9]+")
_LONGEST: Final = 40  # with `-v` and a version of 18 digits still one DNS label
_HASH: Final = 8  # hexadecimal digits


def slug(model: str) -> str:
    """One DNS label (RFC 1123) of at most 40 characters: the name itself, where it is one.

    A name that had to be changed ends with a hash of what it was: `Vision-2.1` -> `vision-2-1-c0e70e26`.
    """
    if len(model) <= _LONGEST and _LABEL.fullmatch(model):
        return model
    digest = hashlib.sha256(model.encode()).hexdigest()[:_HASH]
    kept = _NOT_ALLOWED.sub("-", model.lower())[: _LONGEST - _HASH - 1].strip("-")
    return f"{kept}-{digest}" if kept else digest
