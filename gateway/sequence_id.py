"""What workers know a sequence by. Law: no caller can name another's; the same in every gateway process.

A model's server has one namespace of sequences for all who call it, and callers like to count from 1: whoever named
another's sequence would go on with its state, and see of it. So the id that travels is made of the caller's name and of
its id for the sequence. An integer stays one, text stays text, for servers tell them apart and models may read them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from gateway.call import InSequence
from gateway.caller import Caller
from gateway.wire import VARINT, bytes_field, string_field, varint

_PARAMETERS: Final = 4  # ModelInferRequest
_INT64, _STRING = 2, 3  # InferParameter
_INTEGERS: Final = 2**63 - 1  # above 0, which is no sequence, as int64 holds them


def of_caller(caller: Caller, place: InSequence) -> str:
    """The id that travels: 32 hexadecimal digits for text (Triton takes 128 bytes), decimal ones for an integer."""
    said = "\0".join((caller.name, "text" if place.text else "integer", place.id))
    digest = blake2b(said.encode(), digest_size=16).digest()
    return digest.hex() if place.text else str(int.from_bytes(digest) % _INTEGERS + 1)


def parameter(place: InSequence, sequence: str) -> bytes:
    """The field of a ModelInferRequest that names it, in place of the caller's."""
    value = string_field(_STRING, sequence) if place.text else varint(_INT64 << 3 | VARINT) + varint(int(sequence))
    return bytes_field(_PARAMETERS, string_field(1, "sequence_id") + bytes_field(2, value))


def lot(sequence: str) -> float:
    """What a sequence draws, in [0, 1): the same for each of its calls, wherever they come in."""
    return int.from_bytes(blake2b(sequence.encode(), digest_size=6).digest()) / 2**48
