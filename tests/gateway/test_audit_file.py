"""The audit's files: one chain, whoever writes, and whatever becomes of the disk."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import resource
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from gateway import audit_file
from gateway.audit_file import AuditFile, rotated
from headrace.audit.files import in_order
from headrace.audit.verified import Verified, verify

MUCH = 1024**3


def made(path: Path, rotate: int = MUCH, keep: int = 0) -> AuditFile:
    return AuditFile(path, rotate, keep, lambda: 0)


def append(file: AuditFile, *names: object) -> None:
    bodies = deque(json.dumps({"n": name}).encode() for name in names)
    file.append(bodies)
    assert not bodies


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def verified(*paths: Path) -> Verified:
    return verify(in_order(paths), [], lambda _size: None)


def names(path: Path) -> list[object]:
    return [line["n"] for one in in_order([path]) for line in read(one.path) if "n" in line]


def test_the_first_line_says_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    append(made(path), 1, 2)
    first, *rest = read(path)
    assert (first["headrace.audit"], first["previous"], first["seq"]) == ("begin", {"seq": 0, "chain": "0" * 64}, 1)
    assert [line["seq"] for line in rest] == [2, 3]
    assert path.stat().st_mode & 0o777 == 0o640
    assert verified(path).wrong is None


@pytest.mark.parametrize("rotate", [MUCH, 300])
def test_a_line_that_lacks_its_newline_alone_is_whole(
    rotate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "audit.jsonl", os.write
    file = made(path, rotate)
    append(file, 1)
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, text: write(file, text[:-1]))
        waiting = deque([b'{"n":2}'])
        with pytest.raises(OSError, match="No space left"):
            file.append(waiting)
    assert not waiting
    assert verified(path).wrong is None
    append(file, 3)
    append(made(path, rotate), 4)
    assert (verified(path).wrong, names(path)) == (None, [1, 2, 3, 4])


def test_another_process_goes_on_where_the_last_ended(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    append(made(path), 1)
    append(made(path), 2)
    assert names(path) == [1, 2]
    assert verified(path).wrong is None


def _write(path: Path, locks: bool) -> None:
    if not locks:
        fcntl.flock = lambda *_: None  # type: ignore[assignment]
        link = audit_file.linked

        def slowly(*args: Any) -> Any:  # between the look at the end and the write
            time.sleep(0.001)
            return link(*args)

        audit_file.linked = slowly
    file = made(path, rotate=20_000)
    for number in range(150):
        append(file, number)


@pytest.mark.parametrize("locks", [True, False])
def test_several_processes_make_one_chain_because_they_lock(locks: bool, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(path, locks)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    found = verified(path)
    assert (found.wrong is None) is locks
    if locks:
        assert sorted(names(path)) == sorted([*range(150)] * 3)
        assert len(rotated(path)) > 1


def test_threads_do_so_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    def fill() -> None:
        file = made(path, rotate=8192)
        for number in range(200):
            append(file, number)

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verified(path).wrong is None
    assert len(names(path)) == 800


def test_a_full_file_is_put_aside_and_the_next_names_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = made(path, rotate=4096)
    for number in range(100):
        append(file, number)
    old = rotated(path)
    assert len(old) > 1
    for before, after in zip(old, [*old[1:], path], strict=True):
        last, first = read(before)[-1], read(after)[0]
        assert first["previous"] == {"seq": last["seq"], "chain": last["chain"]}
        assert int(before.suffix[1:]) == read(before)[0]["seq"]
    assert verified(path).wrong is None
    assert names(path) == [*range(100)]


def test_of_old_files_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = made(path, rotate=4096, keep=2)
    for number in range(100):
        append(file, number)
    assert len(rotated(path)) == 2
    found = verified(path)
    assert (found.wrong, found.before.seq) == (None, read(rotated(path)[0])[0]["seq"] - 1)


def test_no_file_is_written_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "audit.jsonl"
    (tmp_path / "audit.jsonl.000000000001").write_text("evidence")
    file = made(path, rotate=4096)
    for number in range(100):
        append(file, number)
    assert (tmp_path / "audit.jsonl.000000000001").read_text() == "evidence"
    assert "the audit cannot be rotated" in caplog.text
    assert verify(in_order([tmp_path]), [], lambda _size: None).wrong is None


@pytest.mark.parametrize("piece", [b'{"n":', b"{", b'{"n":9}\n', b'{"n":9}\n{"m"', b"\n\n"])
def test_what_is_no_line_is_told_by_the_next(piece: bytes, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    append(made(path), 1)
    with path.open("ab") as file:
        file.write(piece)
    append(made(path), 2)
    found = verified(path)
    assert (found.wrong, found.torn) == (None, 1)
    text = path.read_bytes()
    assert piece in text
    path.write_bytes(text.replace(b'"torn":{"bytes"', b'"torm":{"bytes"'))
    assert verified(path).wrong is not None


def test_of_a_first_line_that_was_torn_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    append(made(path), 1)
    path.write_bytes(path.read_bytes()[:40])
    append(made(path), 2)
    assert verified(path).wrong is None


def test_who_is_told_of_a_full_disk_goes_on_after_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = made(path)
    append(file, 1)
    bodies = deque(b'{"n":%d}' % number for number in range(2, 22))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1000, hard))
    try:
        for _ in range(3):
            with pytest.raises(OSError, match=r"No space|too large"):
                file.append(bodies)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < len(bodies) < 20
    file.append(bodies)
    found = verified(path)
    assert (found.wrong, found.torn) == (None, 1)
    kept = [json.loads(line).get("n") for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    assert [name for name in kept if name] == [*range(1, 22)]


def test_a_file_that_is_moved_away_is_missed(tmp_path: Path) -> None:
    path, away = tmp_path / "audit.jsonl", tmp_path / "away"
    file = made(path)
    append(file, 1)
    path.rename(away)
    append(file, 2)
    assert verified(away, path).wrong is None
    append(file, 3)
    last = file.last
    path.rename(tmp_path / "gone")
    append(file, 4)
    assert read(path)[0]["previous"]["seq"] == last.seq
    wrong = verified(away, path).wrong
    assert wrong is not None
    assert "missing, between away and audit.jsonl" in wrong.what


def test_lines_that_are_taken_away_from_a_gateway_that_runs_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = made(path)
    append(file, 1, 2, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    append(file, 4)
    wrong = verified(path).wrong
    assert wrong is not None
    assert wrong.what == "line 4 is missing"


def test_on_a_file_that_is_none_of_an_audit_nothing_is_built(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("my diary\n")
    with pytest.raises(OSError, match="it does not end in a line of an audit"):
        append(made(path), 1)
    assert path.read_text() == "my diary\n"


def test_a_folder_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "audit.jsonl"
    file = made(path)
    append(file, 1)
    path.unlink()
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        append(file, 2)
    folder.mkdir()
    append(file, 3)
    assert read(path)[0]["previous"]["seq"] == 2
    assert list(folder.iterdir()) == [path]
