"""`headrace audit`: what was done to an audit, and what is in it."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gateway.access_log import Line, text_of
from gateway.audit_file import AuditFile, rotated
from gateway.audited import who
from headrace.audit.files import in_order
from headrace.audit.shown import Wanted, picked
from headrace.audit.verified import verify as verified
from tests.gateway import world as worlds
from tests.gateway.tokens import Issuer
from tests.headrace.called import Done, headrace

DAY = 86_400
NOW = int(time.time())


def call(number: int, *, ago: float = 0, **more: str) -> bytes:
    named = {name.replace("__", "."): value for name, value in more.items()}
    fields = {
        **who("alice@https://id.example/"),
        "headrace.decision": "allowed",
        "headrace.model.name": "digits",
        "headrace.request.id": f"{number:032x}",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
    }
    return text_of(Line(int((NOW - ago) * 1e9), fields | named))[:-1]


REFUSED = {
    "headrace__decision": "refused",
    "headrace__reason": "NOT_GRANTED",
    "rpc__response__status_code": "PERMISSION_DENIED",
}


def write(path: Path, bodies: Sequence[bytes], rotate: int = 2**30) -> AuditFile:
    file = AuditFile(path, rotate, 0, lambda: 0)
    for body in bodies:
        file.append(deque([body]))
    return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Ten calls; the first line is number 1."""
    write(tmp_path / "audit.jsonl", [call(number) for number in range(2, 12)])
    return tmp_path / "audit.jsonl"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Of several files, the last of which is `audit.jsonl`."""
    path = tmp_path / "audit.jsonl"
    write(path, [call(number) for number in range(60)], rotate=8192)
    found = [*rotated(path), path]
    assert len(found) >= 4
    return found


def verify(*arguments: object) -> Done:
    return headrace("audit", "verify", *map(str, arguments))


def changed(path: Path, change: Callable[[list[bytes]], None]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def wrong(path: Path, change: Callable[[list[bytes]], None]) -> str:
    """What is found, once that is changed."""
    assert verify(path).returncode == 0
    changed(path, change)
    done = verify(path)
    assert (done.returncode, done.stderr) == (1, "")
    first, second = done.stdout.splitlines()
    assert second.startswith("good until line ")
    assert first.startswith(f"wrong: {path}:")
    return first.removeprefix(f"wrong: {path}:")


def other_caller(lines: list[bytes]) -> None:
    lines[4] = lines[4].replace(b"alice", b"mallory")


def other_hash(lines: list[bytes]) -> None:
    other_caller(lines)
    lines[4] = re.sub(rb'[0-9a-f]{64}"}', b"0" * 64 + b'"}', lines[4])


def without_one(lines: list[bytes]) -> None:
    del lines[4]


def without_some(lines: list[bytes]) -> None:
    del lines[4:7]


def swapped(lines: list[bytes]) -> None:
    lines[4], lines[5] = lines[5], lines[4]


def twice(lines: list[bytes]) -> None:
    lines.insert(5, lines[4])


def put_in(lines: list[bytes]) -> None:
    lines.insert(4, lines[4].replace(b"alice", b"mallory"))


def noise(lines: list[bytes]) -> None:
    lines.insert(4, b"hello\n")


def headless(lines: list[bytes]) -> None:
    del lines[0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_caller, "5: line 5 was changed, or the one before it"),
        (other_hash, "5: line 5 was changed, or the one before it"),
        (without_one, "5: line 5 is missing"),
        (without_some, "5: lines 5 to 7 are missing"),
        (swapped, "5: line 6 was moved: it stands where 5 should"),
        (twice, "6: line 5 was put in: it stands where 6 should"),
        (put_in, "5: line 5 was put in"),
        (noise, "6: what comes after line 4 is no line of an audit"),
        (headless, "1: does not begin with the first line of an audit's file"),
    ],
)
def test_what_was_done_to_a_file(change: Callable[[list[bytes]], None], what: str, path: Path) -> None:
    if change is headless:
        changed(path, change)
        assert f"wrong: {path}:{what}" in verify(path).stdout
    else:
        assert wrong(path, change) == what


def test_a_file_that_is_missing(files: list[Path]) -> None:
    assert verify(files[-1].parent).returncode == 0
    assert verify(files[-1]).stdout.startswith(
        f"good: {len(files) + 60} lines in {len(files)} files\n"
    )  # its old ones, too
    lines = files[1].read_bytes().splitlines()
    first, last = (json.loads(lines[at])["seq"] for at in (0, -1))
    files[1].unlink()
    done = verify(*reversed(files[:1] + files[2:]))  # in any order
    assert done.returncode == 1
    assert (
        f"{files[2]}: lines {first} to {last} are missing, between {files[0].name} and {files[2].name}" in done.stdout
    )


def test_files_whose_beginning_is_gone_say_so(files: list[Path]) -> None:
    first = json.loads(files[1].read_bytes().splitlines()[0])["seq"]
    files[0].unlink()
    done = verify(files[-1])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"lines 1 to {first - 1} are in no file here")


def test_a_file_of_another_chain(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write(
        tmp_path / "other" / "audit.jsonl",
        [call(number, headrace__model__name="x") for number in range(60)],
        rotate=8192,
    )
    other = rotated(tmp_path / "other" / "audit.jsonl")[1]
    files[1].write_bytes(other.read_bytes())
    assert "does not go on from the end of" in verify(files[-1]).stdout


def test_a_file_that_is_rotated_while_it_is_read(files: list[Path]) -> None:
    """What is read is what was there."""
    path = files[-1]
    found = in_order([path])
    path.rename(path.with_name("audit.jsonl.000000009999"))
    AuditFile(path, 2**30, 0, lambda: 0).append(deque([call(9)]))
    result = verified(found, [], lambda _size: None)
    assert (result.wrong, result.lines) == (None, len(files) + 60)
    assert verify(path).returncode == 0


def test_an_empty_file_is_none(files: list[Path]) -> None:
    files[-1].rename(files[-1].with_name("audit.jsonl.000000009999"))
    files[-1].touch()
    assert verify(files[-1]).returncode == 0
    assert verify(files[-1].parent).returncode == 0


def test_what_is_missing_at_the_end_takes_word_from_elsewhere(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    words = [f"{line['seq']}:{line['chain']}" for line in lines]
    both = ["--expect", words[2], "--expect", words[-1]]
    assert verify(path, *both).returncode == 0
    changed(path, lambda lines: lines.__delitem__(slice(-2, None)))
    assert verify(path).returncode == 0  # nobody could know
    done = verify(path, *both)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "wrong: lines 10 to 11 are missing at the end")


def test_a_chain_that_was_made_anew(path: Path) -> None:
    word = json.loads(path.read_bytes().splitlines()[6])
    path.unlink()
    write(path, [call(number, headrace__model__name="other") for number in range(2, 12)])
    assert verify(path).returncode == 0
    done = verify(path, "--expect", f"{word['seq']}:{word['chain']}")
    assert "line 7 is another one than expected: the chain was made anew" in done.stdout


def test_a_word_of_before_the_first_file(files: list[Path]) -> None:
    last = json.loads(files[0].read_bytes().splitlines()[-1])
    early = json.loads(files[0].read_bytes().splitlines()[2])
    files[0].unlink()
    assert verify(files[-1], "--expect", f"{last['seq']}:{last['chain']}").returncode == 0
    assert "line 3 is in no file here" in verify(files[-1], "--expect", f"3:{early['chain']}").stdout


@pytest.mark.parametrize(
    "junk", [b'{"headrace.audit":' + b"[" * 100_000, b'{"rpc.method":1,"time":5}', b"x\n" * 200_000]
)
def test_junk_is_told_of_and_ends_nothing(junk: bytes, path: Path) -> None:
    good = path.read_bytes()
    path.write_bytes(good + junk + b"\n")
    assert verified(in_order([path]), [], lambda _size: None).wrong is not None
    assert len(picked(in_order([path]), Wanted(since="2000"), 0)) >= 10
    path.write_bytes(junk + b"\n" + good)
    assert verified(in_order([path]), [], lambda _size: None).wrong is not None


def test_a_line_that_is_being_written_is_no_mistake(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"headrace.caller"')
    done = verify(path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        "its last line has no end: it is being written, or who wrote it was ended",
    )


def test_for_scripts(path: Path) -> None:
    good = json.loads(verify(path, "-o", "json").stdout)
    assert (good["good"], good["lines"], good["last"]["seq"], good["wrong"]) == (True, 11, 11, None)
    changed(path, other_caller)
    done = verify(path, "-o", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["wrong"] == {
        "file": str(path),
        "line": 5,
        "what": "line 5 was changed, or the one before it",
    }


def test_usage(path: Path, tmp_path: Path) -> None:
    assert verify(tmp_path / "no").returncode == 2
    assert verify(path, "--expect", "12").returncode == 2
    (tmp_path / "empty").mkdir()
    assert headrace("audit", "verify", folder=tmp_path / "empty").returncode == 2
    done = verify(tmp_path / "empty")
    assert (done.returncode, done.stderr) == (
        1,
        "headrace: there is no audit: none of the files there begins as one does\n",
    )


def test_the_configuration_says_where_it_is(tmp_path: Path) -> None:
    config = worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", audit={"file": "audit.jsonl"})
    write(tmp_path / "audit.jsonl", [call(1)])
    assert headrace("audit", "verify", folder=tmp_path).stdout.startswith("good: 2 lines in 1 file\n")
    worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits")
    assert "asks for no audit" in headrace("audit", "show", "-c", str(config)).stderr


# ---- show ----


@pytest.fixture
def various(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    bodies = [
        call(1, ago=2 * DAY),
        call(2, ago=60, **REFUSED, headrace__model__name="secret"),
        call(3, **who("bob%40x@https://id.example/"), headrace__model__version__served="2"),
        call(4, **{"headrace.model.name": "vision-large"}),
        b'{"headrace.audit":"lost","lost":3}',
    ]
    write(path, bodies)
    return path


def shown(*arguments: object) -> list[str]:
    done = headrace("audit", "show", *map(str, arguments), "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    return [str(int(json.loads(line)["headrace.request.id"], 16)) for line in done.stdout.splitlines()]


def test_who_called_what(various: Path) -> None:
    assert shown(various) == ["1", "2", "3", "4"]
    assert shown(various, "-n", 2) == ["3", "4"]
    assert shown(various, "-n", 0) == ["1", "2", "3", "4"]
    assert shown(various, "--refused") == ["2"]
    assert shown(various, "--model", "vision-*") == ["4"]
    assert shown(various, "--model", "vision") == []
    assert shown(various, "--caller", "bob@x") == shown(various, "--caller", "bob%40x@https://id.example/") == ["3"]
    assert shown(various, "--caller", "https://id.*", "-n", 1) == ["4"]
    assert shown(various, "--since", "1h") == ["2", "3", "4"]
    assert shown(various, "--request-id", f"{2:032x}") == ["2"]


def test_lines_for_scripts_are_those_of_the_file(various: Path) -> None:
    done = headrace("audit", "show", str(various), "-o", "json")
    assert set(done.stdout.splitlines()) <= set(various.read_text().splitlines())


def test_the_table(various: Path) -> None:
    done = headrace("audit", "show", str(various))
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert re.search(r"\d\d-\d\d \d\d:\d\d:\d\d  refused   NOT_GRANTED  alice +ModelInfer  secret", done.stdout)
    assert re.search(r"allowed   OK +bob@x +ModelInfer  digits 2", done.stdout)
    wide = headrace("audit", "show", str(various), environ={"COLUMNS": "200"}).stdout
    assert f"{2:032x}" in wide
    assert headrace("audit", "show", str(various), "--model", "none").stdout == "no such call is in the audit\n"


def test_no_caller_moves_a_cursor(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, [call(1, headrace__model__name="\x1b[2Jmodel[red]\x9b", **who("a%1B%0Ax@https://id.example/"))])
    text = headrace("audit", "show", str(path)).stdout
    assert "\x1b" not in text and "\x9b" not in text
    assert "a� x" in text and "[red" in text
    changed(path, lambda lines: lines.append(b"\x1b[2J\n"))
    assert "\x1b" not in verify(path).stdout


def test_long_names_fit(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, [call(1, headrace__model__name="m" * 200, **who(f"{'s' * 200}@https://id.example/"))])
    lines = headrace("audit", "show", str(path)).stdout.splitlines()
    assert max(map(len, lines)) <= 80


def about(kind: str, pid: object) -> bytes:
    return json.dumps({"headrace.audit": kind, "pid": pid}).encode()


def test_who_has_not_said_that_it_ended_is_told(path: Path) -> None:
    write(path, [about("start", 1), about("start", 2), call(1), about("stop", 1), about("start", 3)])
    said = verify(path)
    assert said.returncode == 0
    assert "who began in line 13, 16 has not said that it ended" in said.stdout
    assert json.loads(verify(path, "-o", "json").stdout)["begun"] == [13, 16]


@pytest.mark.parametrize("pid", [None, [], {}, "1"])
def test_a_process_without_a_number_is_none(pid: object, path: Path) -> None:
    write(path, [about("start", pid), about("stop", pid)])
    assert json.loads(verify(path, "-o", "json").stdout)["begun"] == []
