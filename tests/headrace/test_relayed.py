"""Lines of the Envoy in front come whole, however it writes them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway import access_log as files
from gateway.access_log import Line, appending
from headrace import relayed as module


@contextlib.contextmanager
def relayed(folder: Path) -> Iterator[None]:
    """Into an access log, as lines that are handed on are there."""
    with (
        appending(folder / "access.log", time.monotonic, 256, gather=0.0) as file,
        module.relayed(folder / "pipe", file.write),
    ):
        yield


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_a_line_in_pieces_is_whole_among_others(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with relayed(tmp_path), appending(path, time.monotonic) as others:
        with (tmp_path / "pipe").open("wb", buffering=0) as envoy:
            envoy.write(b'{"n":1}\n{"n"')
            until(lambda: b'{"n":1}' in path.read_bytes())
            others.write(partial(Line, 0, {"n": 2}))
            until(lambda: b'"n":2' in path.read_bytes())
            envoy.write(b":3}\n")
        until(lambda: b'{"n":3}' in path.read_bytes())
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_the_beginning_of_a_line_that_an_envoy_did_not_live_to_end_is_no_other_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, envoys, take = tmp_path / "access.log", [0], module._take

    def counted(pipe: Path, hand_on: module.Take) -> None:
        envoys[0] += 1
        take(pipe, hand_on)

    monkeypatch.setattr(module, "_take", counted)
    with relayed(tmp_path):
        for number, piece in enumerate((b'{"n":1}\n{"lost"', b'{"n":2}\n')):
            until(lambda number=number: envoys[0] == number + 1)
            with (tmp_path / "pipe").open("wb", buffering=0) as envoy:
                envoy.write(piece)
            until(lambda piece=piece: piece[:7] in path.read_bytes())
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'


def test_a_pipe_that_cannot_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An Envoy would wait for who reads, and callers for the Envoy."""
    path, full, take = tmp_path / "access.log", [True], module._take

    def failing(pipe: Path, hand_on: module.Take) -> None:
        if full:
            full.clear()
            raise OSError(24, "Too many open files")
        take(pipe, hand_on)

    monkeypatch.setattr(module, "_take", failing)
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    with relayed(tmp_path):
        with (tmp_path / "pipe").open("wb", buffering=0) as envoy:
            envoy.write(b'{"n":1}\n')
        until(lambda: path.read_bytes() == b'{"n":1}\n')
    assert "lines of the lane cannot be read: Too many open files; it is tried again" in caplog.text


def test_who_cannot_take_some_lines_is_handed_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else would read the pipe."""
    came: list[bytes] = []

    def take(lines: bytes) -> None:
        came.append(lines)
        if lines == b"bad\n":
            raise OverflowError(lines)

    with module.relayed(tmp_path / "pipe", take), (tmp_path / "pipe").open("wb", buffering=0) as envoy:
        for count, piece in enumerate((b"bad\n", b"good\n") * 2, 1):
            envoy.write(piece)
            until(lambda count=count: len(came) == count)
    assert came == [b"bad\n", b"good\n"] * 2
    assert [record.message for record in caplog.records] == ["lines of the lane were lost"]


def test_what_was_written_at_the_end_is_there(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with relayed(tmp_path), (tmp_path / "pipe").open("wb", buffering=0) as envoy:
        for number in range(10_000):
            envoy.write(b'{"n":%d}\n' % number)
    assert len(path.read_bytes().splitlines()) == 10_000


def test_a_disk_that_hangs_does_not_hold_up_an_envoy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()
    monkeypatch.setattr(files._File, "write", lambda _self, _line: over.wait(30))
    with relayed(tmp_path):
        with (tmp_path / "pipe").open("wb", buffering=0) as envoy:
            for _ in range(600):
                envoy.write((b"x" * 999 + b"\n") * 64)
        until(lambda: "they come faster than they can be written" in caplog.text)
        over.set()
