"""Envoy's command operators, and CEL in them. Law: text goes in, a command comes out; what a call is, others know.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/advanced/substitution_formatter
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def first_of(*commands: tuple[str, str]) -> str:
    """A command: what the first of these (command, parameter) gives that gives anything."""
    operators = [{"command": command, **({"param": param} if param else {})} for command, param in commands]
    return f"%COALESCE({json.dumps({'operators': operators})})%"


def literal(value: Mapping[int, str] | Mapping[str, str] | Sequence[str]) -> str:
    """As CEL has it, which has no parentheses: these would end a command of Envoy's."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {text!r}" for key, text in value.items()) + "}"
    return "[" + ", ".join(map(repr, value)) + "]"
