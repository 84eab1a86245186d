"""The file of the access log: whole lines, whatever becomes of it."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from gateway import access_log
from gateway.access_log import STDOUT, Line, appending
from protos import dropped
from protos.dropped import Signal


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lost() -> int:
    return dropped.counts()[Signal.ACCESS_LOG]


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_plain_json_with_the_time_first_to_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with appending(path, Clock()) as log:
        log.write(partial(Line, 1_700_000_000_007_999_999, {"b": "\u2028\n\x1b\u00e9", "a": 1}))
    assert path.read_bytes() == b'{"a":1,"b":"\\u2028\\n\\u001b\\u00e9","time":"2023-11-14T22:13:20.007Z"}\n'
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_others_append_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "access.log"

    def fill(name: str) -> None:
        with appending(path, Clock()) as log:
            for number in range(2000):
                log.write(partial(Line, number, {"of": name, "long": name * 500}))

    threads = [threading.Thread(target=fill, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line["of"] for line in read(path)].count("a") == 2000
    assert len(read(path)) == 4000


def test_a_line_that_was_torn_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, write = tmp_path / "access.log", os.write

    def tear(file: int, text: bytes) -> int:
        return write(file, text[:9] if b"torn" in text else text)

    before, file = lost(), access_log._File(path, Clock())
    monkeypatch.setattr(access_log.os, "write", tear)
    file.write([partial(Line, 0, {"a": "torn"}), partial(Line, 0, {"a": "lost"})])
    file.write([partial(Line, 0, {"a": "whole"}), partial(Line, 0, {"a": "whole"})])
    file.close()
    assert lost() - before == 2
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert [json.loads(line)["a"] for line in lines[1:]] == ["whole"] * 2
    assert "a line of the access log is torn" in caplog.text


def test_a_line_that_cannot_be_made_takes_no_other_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Line:
        raise RuntimeError("what nobody thought of")

    path, before = tmp_path / "access.log", lost()
    with appending(path, Clock()) as log:
        for told in (partial(Line, 0, {"a": 1}), fails, partial(Line, 0, {"a": 2})):
            log.write(told)
    assert ([line["a"] for line in read(path)], lost() - before) == ([1, 2], 1)
    assert "a line of the access log cannot be made" in caplog.text


def test_a_full_disk_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    before = lost()
    with appending(Path("/dev/full"), Clock()) as log:
        for _ in range(100):
            log.write(partial(Line, 0, {}))
        log.write(b"one\ntwo\n")
    assert lost() - before == 102
    assert caplog.text.count("lines of the access log are lost: /dev/full: No space left on device") == 1


def test_a_disk_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    over, before = threading.Event(), lost()
    monkeypatch.setattr(access_log._File, "write", lambda _self, _line: over.wait(30))
    with appending(tmp_path / "access.log", Clock()) as log:
        for _ in range(12_000):
            log.write(partial(Line, 0, {}))
        assert "they come faster than they can be written" in caplog.text
        assert 990 < lost() - before <= 2000  # the thread may have taken some
        over.set()


def test_a_file_that_is_gone_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    path, clock = folder / "access.log", Clock()
    folder.mkdir()
    file = access_log._File(path, clock)
    file.write([partial(Line, 0, {"a": 1})])
    path.rename(tmp_path / "old")
    folder.rmdir()
    clock.now += 2
    file.write([partial(Line, 0, {"a": 2})])
    assert "lines of the access log are lost" in caplog.text
    folder.mkdir()
    file.write([partial(Line, 0, {"a": 3})])
    file.close()
    assert [line["a"] for line in read(tmp_path / "old")] == [1]
    assert [line["a"] for line in read(path)] == [3]


def test_a_file_that_is_made_short_is_written_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = access_log._File(path, Clock())
    file.write([partial(Line, 0, {"a": 1})])
    os.truncate(path, 0)
    file.write([partial(Line, 0, {"a": 2})])
    file.close()
    assert [line["a"] for line in read(path)] == [2]


def test_standard_output_gets_whole_lines_in_parts_that_a_pipe_takes_together(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, write = [], os.write

    def note(file: int, text: bytes) -> int:
        parts.append(text)
        return write(file, text)

    together = b"".join(b'{"n":"%d"}\n' % (10**100 + number) for number in range(200)) + b'{"long":"%s"}\n' % (
        b"x" * 5000
    )
    with appending(STDOUT, Clock()) as log:
        monkeypatch.setattr(access_log.os, "write", note)
        log.write(together)
        log.write(partial(Line, 0, {"a": 1}))
    monkeypatch.undo()
    assert (
        capfd.readouterr().out.encode() == b"".join(parts) == together + b'{"a":1,"time":"1970-01-01T00:00:00.000Z"}\n'
    )
    assert all(part.endswith(b"\n") for part in parts)
    assert [part for part in parts if len(part) > 4096] == [b'{"long":"%s"}\n' % (b"x" * 5000)]
