"""Durations, numbers and patterns."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from mesh.istio.headers import HeaderOperations, Headers
from mesh.istio.message import mistakes_of
from mesh.istio.regex import mistake_in_regex
from mesh.istio.values import Bool, Count, Double, Duration, DurationOrOff, PercentInt, Port, PositiveDuration


@pytest.mark.parametrize(
    ("written", "json"),
    [
        ("5s", "5s"), ("250ms", "0.250s"), ("1h30m", "5400s"), ("1.5h", "5400s"), ("-1s", "-1s"), ("0", "0s"),
        ("0s", "0s"),
        ("100us", "0.000100s"), ("1ns", "0.000000001s"), ("+2s", "2s"), (".5s", "0.500s"), ("1.s", "1s"),
        ("-250ms", "-0.250s"),
    ],
)  # fmt: skip
def test_durations(written: str, json: str) -> None:
    assert Duration.parse(written).json == json
    assert Duration.parse(json) == Duration.parse(written)


@pytest.mark.parametrize("bad", ["", "5", "s", "5 s", "5d", "1s2", "--1s", ".s", "1e3s", "9999999h", 5, None, True])
def test_no_duration(bad: object) -> None:
    with pytest.raises(ValueError, match=r"duration|too long"):
        Duration.parse(bad)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (PositiveDuration, ["1ms", "5s"], ["0s", "-1s", "999us", "1500us"]),
        (DurationOrOff, ["0s", "1ms"], ["1500us", "-1s"]),
        (Port, [1, 65535, "8001", 8001.0], [0, 65536, "http", True, 1.5, "1.0"]),
        (Count, [0, 2**31 - 1], [-1, 2**31]),
        (PercentInt, [0, 100], [-1, 101]),
        (Double, [1, "1.5", 2.5], [float("nan"), float("inf"), True, "x", 10**400, "1e999"]),
        (Bool, [True, False], [1, "true", "yes"]),
    ],
)
def test_bounds(kind: object, good: list[object], bad: list[object]) -> None:
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    for value in good:
        adapter.validate_python(value)
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


@pytest.mark.parametrize(
    "good", ["gold|silver", r"\pL+", "[[:alpha:]]+", "(?P<a>x)", "(?i)a", r"a\\1", r"\d+\z", "a*?"]
)
def test_patterns(good: str) -> None:
    assert mistake_in_regex(good) is None


@pytest.mark.parametrize(
    "bad", ["", "a(", "(?=a)", "(?<!a)b", r"(a)\1", "a*+", "(?>a)", "(?P<a>x)(?P=a)", "x" * 1025, "["]
)
def test_no_patterns(bad: str) -> None:
    assert mistake_in_regex(bad)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("one", True), ("100%%", True), ("%HOSTNAME%", True), ("a %REQ(x-b)% c", True), ("tab\t", True), ("", True),
        ("5%", False), ("%START_TIME%%", False), ("abc%123", False), ("a\nb", False), ("%REQ(x", False),
    ],
)  # fmt: skip
def test_header_values(value: str, good: bool) -> None:
    assert (not list(mistakes_of(Headers(request=HeaderOperations(set={"x": value}))))) is good


def test_header_names() -> None:
    request = HeaderOperations(set={":authority": "a", ":path": "/"}, remove=("host",))
    response = HeaderOperations(add={"host": "a", "x-fine": "b"})
    places = [place for place, _ in mistakes_of(Headers(request=request, response=response))]
    assert places == [("request", "set", ":path"), ("request", "remove", 0), ("response", "add", "host")]
