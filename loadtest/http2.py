"""As much HTTP/2 as gRPC's unary calls need. Law: frames only; what they say is for the two ends that build on this.

A load generator must be lighter than what it loads, and grpc.aio weighs as much as the proxies under test. So header
blocks are made once by hand, received header blocks are not decoded, and nothing is copied that need not be. Sending
keeps to the peer's flow control windows; receiving grants the largest. Format: RFC 9113 and, for headers, RFC 7541.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4

_HEAD: Final = struct.Struct(">HBBBI")  # length in 24 bits, type, flags, stream
_SETTING: Final = struct.Struct(">HI")
_INITIAL_WINDOW_SIZE: Final = 4
_FRAME: Final = 16_384  # bytes that every peer takes in one frame
_WINDOW: Final = 65_535  # bytes, until the peer says otherwise
_MOST: Final = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return head(kind, flags, stream, len(payload)) + payload


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes before a frame's payload."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def literal(headers: Sequence[tuple[str, str]], *, keep: bool = False) -> bytes:
    """A header block that spells everything; with `keep`, the peer remembers each header (see `kept`)."""
    start = b"\x40" if keep else b"\x00"
    return b"".join(start + _string(name) + _string(value) for name, value in headers)


def kept(count: int) -> bytes:
    """The header block that repeats the `count` headers that the peer was told to remember, by number."""
    return bytes(0x80 | 61 + count - index for index in range(count))


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, length = len(data) - 127, bytearray(b"\x7f")
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes((*length, rest)) + data


@dataclass(slots=True)
class _Sending:
    body: memoryview
    tail: bytes | None
    window: int
    position: int = 0


class Connection(asyncio.Protocol):
    """One end of a connection. Subclasses get `on_data` and `on_end`, and call `send`; elsewhere, also `flush`."""

    def __init__(self, *, client: bool) -> None:
        self._transport: asyncio.Transport | None = None
        self._greets = client
        self._greeting = 0 if client else len(PREFACE)  # bytes of the peer's that are still to be skipped
        self._buffer = b""
        self._out: list[bytes | memoryview] = []
        self._sending: dict[int, _Sending] = {}
        self._window = _WINDOW
        self._stream_window = _WINDOW
        self._taken = 0

    def on_data(self, stream: int, payload: memoryview) -> None:
        """Bytes of a message; `payload` is valid during the call."""
        raise NotImplementedError

    def on_end(self, stream: int, *, reset: bool) -> None:
        """The peer has sent all it will on this stream; or has given it up (`reset`)."""
        raise NotImplementedError

    def send_frame(self, whole: bytes) -> None:
        """Queue a frame that no window bounds."""
        self._out.append(whole)

    def send(self, stream: int, headers: bytes, message: bytes, tail: bytes | None = None) -> None:
        """Queue a header frame, a message in DATA frames, and `tail`; without one, the last DATA ends the stream."""
        self._out.append(headers)
        self._sending[stream] = _Sending(memoryview(message), tail, self._stream_window)
        self._pump(stream)

    def flush(self) -> None:
        """Hand what is queued to the socket."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet; grant all the window there is."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's signature is wider than its promise
        self._transport = transport
        settings = _SETTING.pack(_INITIAL_WINDOW_SIZE, _MOST)
        self._out += (PREFACE if self._greets else b"", frame(SETTINGS, 0, 0, settings), _grant(_MOST - _WINDOW))
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Read the frames that are whole."""
        buffer = self._buffer + data if self._buffer else data
        view = memoryview(buffer)
        position, size = min(self._greeting, len(buffer)), len(buffer)
        self._greeting -= position
        while size - position >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, position)
            end = position + 9 + (high << 8 | low)
            if end > size:
                break
            if kind == DATA:
                self._taken += end - position
                self.on_data(stream, view[position + 9 : end])
            elif kind != HEADERS:
                self._control(kind, flags, stream, view[position + 9 : end])
            if flags & END_STREAM and kind in {DATA, HEADERS}:
                self.on_end(stream, reset=False)
            position = end
        self._buffer = buffer[position:]
        if self._taken > _MOST // 4:
            self._out.append(_grant(self._taken))
            self._taken = 0
        self.flush()

    def _control(self, kind: int, flags: int, stream: int, payload: memoryview) -> None:
        if kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == SETTINGS and not flags & ACK:
            for setting, value in _SETTING.iter_unpack(payload):
                if setting == _INITIAL_WINDOW_SIZE:
                    for sending in self._sending.values():
                        sending.window += value - self._stream_window
                    self._stream_window = value
            self._out.append(frame(SETTINGS, ACK, 0))
            self._widen(0, 0)
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, bytes(payload)))
        elif kind == RST_STREAM:
            self._sending.pop(stream, None)
            self.on_end(stream, reset=True)

    def _widen(self, stream: int, more: int) -> None:
        if stream == 0:
            self._window += more
            for waiting in tuple(self._sending):
                self._pump(waiting)
        elif stream in self._sending:
            self._sending[stream].window += more
            self._pump(stream)

    def _pump(self, stream: int) -> None:
        """Queue as much of a stream's message as the windows allow."""
        sending = self._sending[stream]
        left = len(sending.body) - sending.position
        while (size := min(left, _FRAME, sending.window, self._window)) > 0:
            left -= size
            flags = END_STREAM if left == 0 and sending.tail is None else 0
            self._out += (
                head(DATA, flags, stream, size),
                sending.body[sending.position : sending.position + size],
            )
            sending.position += size
            sending.window -= size
            self._window -= size
        if left == 0:
            del self._sending[stream]
            if sending.tail is not None:
                self._out.append(sending.tail)


def _grant(size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))
