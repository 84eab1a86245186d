"""Errors inside a stream. Law: of a `ModelStreamInferResponse` only what is wrong is read, and only here.

Triton answers in-band, by `error_message`; the status of the stream says nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.call import LONGEST
from gateway.wire import LENGTH, Extent, Malformed, bytes_field, fields, replace, string_field
from protos.errors import HeadraceError

_ID = 3  # in ModelInferRequest and in ModelInferResponse
_ERROR_MESSAGE, _INFER_RESPONSE = 1, 2  # ModelStreamInferResponse


def refusal(error: HeadraceError, message: bytes) -> bytes:
    """The answer that refuses one message: reason and public text, and the message's `id`."""
    answer = string_field(_ERROR_MESSAGE, f"{error.reason or error.status.name}: {error.public}")
    found = _field(message, _ID)
    if found is None or found[1].end - found[1].start > LONGEST:
        return answer
    return answer + bytes_field(_INFER_RESPONSE, bytes_field(_ID, message[found[1].start : found[1].end]))


def error_in(answer: bytes) -> str:
    """What is wrong by the answer; nothing where it is none, or unreadable."""
    found = _field(answer, _ERROR_MESSAGE)
    return answer[found[1].start : found[1].end].decode(errors="replace") if found else ""


def reworded(answer: bytes, words: Callable[[str], str]) -> bytes:
    """The answer with its error in other words, if it is one that can be read."""
    found = _field(answer, _ERROR_MESSAGE)
    if found is None:
        return answer
    whole, text = found
    try:
        return replace(answer, (whole, string_field(_ERROR_MESSAGE, words(answer[text.start : text.end].decode()))))
    except UnicodeDecodeError:
        return answer


def _field(message: bytes, wanted: int) -> tuple[Extent, Extent] | None:
    """Where all of the field's first occurrence is, and where its value; None where there is none to be read."""
    try:
        for number, wire_type, start, value, end in fields(message):
            if number == wanted and wire_type == LENGTH:
                return Extent(start, end), Extent(value, end)
    except Malformed:
        return None
    return None
