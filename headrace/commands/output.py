"""How results are printed. Law: a table is for people and may change; JSON is for scripts."""

from __future__ import annotations

from enum import StrEnum


class Output(StrEnum):
    """How a command prints what came of it."""

    TABLE = "table"
    JSON = "json"
