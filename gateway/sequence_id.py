"""What workers know a sequence by. Law: no caller can name another's; the same in every gateway process.

A model's server has one namespace of sequences for all who call it, and callers like to count from 1: whoever named
another's sequence would go on with its state, and see of it. So the id that travels is made of the caller's name and of
its id for the sequence. An integer stays one, text stays text, for servers tell them apart and models may read them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from gateway.call import SEQUENCE, InSequence, parameter
from gateway.caller import Caller

_INTEGERS: Final = 2**63 - 1  # above 0, which is no sequence, as int64 holds them


def of_caller(caller: Caller, place: InSequence) -> str:
    """The id that travels: 32 hexadecimal digits for text (Triton takes 128 bytes), decimal ones for an integer."""
    said = "\0".join((caller.name, "text" if place.text else "integer", place.id))
    digest = blake2b(said.encode(), digest_size=16).digest()
    return digest.hex() if place.text else str(int.from_bytes(digest) % _INTEGERS + 1)


def named(place: InSequence, sequence: str) -> bytes:
    """The parameter of a ModelInferRequest that names it, in place of the caller's."""
    return parameter(SEQUENCE, sequence if place.text else int(sequence))


def lot(sequence: str) -> float:
    """What a sequence draws, in [0, 1): the same for each of its calls, wherever they come in."""
    return int.from_bytes(blake2b(sequence.encode(), digest_size=6).digest()) / 2**48
