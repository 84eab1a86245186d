"""What becomes of lines that cannot be written, and of calls meanwhile."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import audit as module
from gateway.access_log import Line, Told
from gateway.audit import Audit, auditing
from gateway.audit_file import AuditFile, rotated
from headrace.audit.files import in_order
from headrace.audit.verified import Verified, verify
from protos import dropped
from protos.dropped import Signal

MUCH = 1024**3


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.02)
    monkeypatch.setattr(module, "_AGAIN", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def opened(path: Path, *, refuses: bool = False) -> Any:
    return auditing(path, MUCH, 0, refuses=refuses)


def line(number: int) -> Told:
    return partial(Line, number, {"n": number})


def until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def read(path: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for one in (*rotated(path), path) for line in one.read_bytes().splitlines() if b"chain" in line
    ]


def numbers(path: Path) -> list[int]:
    return [told["n"] for told in read(path) if "n" in told]


def verified(*paths: Path) -> Verified:
    return verify(in_order(paths), [], lambda _size: None)


@contextmanager
def full(path: Path, room: int = 0) -> Iterator[None]:
    """No file grows beyond what this one is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_are_there_with_when_the_process_came_and_went(path: Path) -> None:
    with opened(path) as audit:
        for number in range(3000):
            audit.write(line(number))
        audit.write_carried(b'{"n":3000}\n{"n":3001}\n')
        until(lambda: audit.written >= 3003)
        assert not audit.failing
    assert numbers(path) == [*range(3002)]
    assert [told["headrace.audit"] for told in read(path) if "n" not in told] == ["begin", "start", "stop"]
    found = verified(path)
    assert (found.wrong, found.last) == (None, audit.last)


def test_what_the_envoy_says_gets_issuer_and_subject(path: Path) -> None:
    said = b'{"headrace.caller":"a%40b%22@https://id.example/","n":1}\n{"n":2}\n{"headrace.caller":"cut","n":3}\n'
    with opened(path) as audit:
        audit.write_carried(said)
    first, *rest = [told for told in read(path) if "n" in told]
    assert (first["headrace.subject"], first["headrace.issuer"]) == ('a@b"', "https://id.example/")
    assert not [told for told in rest if "headrace.subject" in told]


@pytest.mark.parametrize("refuses", [False, True])
def test_a_full_disk_is_told_and_nothing_is_lost_that_can_wait(
    refuses: bool, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path, refuses=refuses) as audit:
        audit.write(line(0))
        until(lambda: numbers(path) == [0])
        with full(path, room=150):
            for number in range(1, 21):
                audit.write(line(number))
            until(lambda: audit.failing)
            assert audit.refuses is refuses
            assert "the audit cannot be written: File too large" in caplog.text or "No space left" in caplog.text
        until(lambda: not audit.failing)
        assert "the audit can be written again" in caplog.text
        assert not audit.refuses
    assert numbers(path) == [*range(21)]
    assert verified(path).wrong is None
    assert audit.lost == 0


def test_what_cannot_wait_is_lost_and_the_chain_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 50)
    before = dropped.counts()[Signal.AUDIT]
    with opened(path) as audit:
        with full(path):
            for number in range(200):
                audit.write(line(number))
                time.sleep(0.001)
            until(lambda: audit.lost >= 50)
        until(lambda: not audit.failing)
        audit.write(line(1000))
    found = verified(path)
    assert (found.wrong, found.lost) == (None, audit.lost)
    assert len(numbers(path)) + found.lost == 201
    (told, *_) = [told for told in read(path) if told.get("headrace.audit") == "lost"]
    assert told["since"] <= told["time"]
    assert dropped.counts()[Signal.AUDIT] - before == audit.lost


def test_a_disk_that_hangs_holds_up_nobody_and_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over, append = threading.Event(), AuditFile.append
    monkeypatch.setattr(module, "_STUCK", 0.05)
    with opened(path, refuses=True) as audit:
        monkeypatch.setattr(AuditFile, "append", lambda self, bodies: over.wait(30) and append(self, bodies))
        audit.write(line(0))
        until(lambda: audit.refuses)
        for number in range(1, 11_000):
            audit.write(line(number))
        audit.write_carried(b'{"n":1}\n')
        assert audit.lost > 0
        over.set()
        until(lambda: not audit.refuses)
    found = verified(path)
    assert (found.wrong, found.lost) == (None, audit.lost)


def test_of_lines_from_elsewhere_so_many_bytes_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    over, append = threading.Event(), AuditFile.append
    with opened(path) as audit:
        monkeypatch.setattr(AuditFile, "append", lambda self, bodies: over.wait(30) and append(self, bodies))
        audit.write(line(0))
        until(lambda: audit._busy_since)
        for number in range(200):
            audit.write_carried(b'{"n":%d}\n' % number)
        assert 0 < audit.lost < 200
        over.set()


def test_a_folder_that_is_gone_is_seen_without_a_call(path: Path) -> None:
    folder = path.parent / "logs"
    folder.mkdir()
    with opened(folder / "audit.jsonl", refuses=True) as audit:
        gone = folder.rename(path.parent / "gone")
        until(lambda: audit.refuses)
        folder.mkdir()
        until(lambda: not audit.refuses)
    assert verified(gone / "audit.jsonl", folder / "audit.jsonl").wrong is None


def test_where_the_chain_is_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "_CHECKPOINT", 0.02)
    with opened(path) as audit:
        audit.write(line(0))
        until(lambda: audit.last.seq == 3 and f"audit: line 3 is {audit.last.chain}" in caplog.text)
    assert f"audit: line 2 is {read(path)[1]['chain']}" in caplog.text
    assert f"audit: line 4 is {read(path)[3]['chain']}" in caplog.text
    assert caplog.text.count("audit: line 3 is") == 1


def test_one_that_can_never_be_written_is_told_at_once(path: Path) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError), opened(path):
        pass


def test_a_disk_that_is_full_already_is_waited_for(path: Path) -> None:
    path.symlink_to("/dev/full")
    with opened(path, refuses=True) as audit:
        assert audit.refuses
        path.unlink()
        until(lambda: not audit.refuses)
    assert [told["headrace.audit"] for told in read(path)] == ["begin", "start", "stop"]


def test_another_process_is_followed_in_silence(path: Path) -> None:
    with opened(path) as audit, opened(path) as other:
        other.write(line(0))
        until(lambda: audit.last == other.last and audit.last.seq == 4)
    assert verified(path).wrong is None
    assert {told["pid"] for told in read(path) if "pid" in told} == {os.getpid()}
    assert isinstance(audit, Audit)


def test_whatever_goes_wrong_with_writing_the_audit_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = AuditFile.append

    def fails(_file: AuditFile, _bodies: object) -> None:
        raise RuntimeError("what nobody thought of")

    with opened(path) as audit:
        monkeypatch.setattr(AuditFile, "append", fails)
        audit.write(line(1))
        until(lambda: audit.failing)
        audit.write(line(2))
        monkeypatch.setattr(AuditFile, "append", append)
        until(lambda: not audit.failing)
    assert (numbers(path), audit.lost) == ([1, 2], 0)
    assert "what nobody thought of" in caplog.text


def test_a_line_that_cannot_be_made_takes_no_other_with_it(path: Path) -> None:
    def fails() -> Line:
        raise RuntimeError("what nobody thought of")

    with opened(path) as audit:
        for told in (line(1), fails, line(2)):
            audit.write(told)
        audit.write_carried(b'{"n":3}\n{"n":4}\n')
    assert (numbers(path), audit.lost) == ([1, 2, 3, 4], 1)


def test_a_line_that_cannot_be_made_ends_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_line: bytes) -> bytes:
        raise RuntimeError("what nobody thought of")

    with opened(path) as audit:
        monkeypatch.setattr(module, "with_who", fails)
        audit.write_carried(b'{"n":1}\n')
        until(lambda: audit.lost == 1)
        monkeypatch.undo()
        audit.write_carried(b'{"n":2}\n')
        until(lambda: audit.written >= 3 and not audit.failing)
    assert [one["lost"] for one in read(path) if "lost" in one] == [1]
    assert any(one.get("n") == 2 for one in read(path))
