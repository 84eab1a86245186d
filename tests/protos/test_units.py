"""Durations, sizes and addresses."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from protos.units import Address, Duration, PerSecond, Size


class Settings(BaseModel):
    wait: Duration = 5.0
    most: Size = 64
    at: Address = "127.0.0.1:0"
    often: PerSecond = 1.0


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("1.5s", 1.5), ("1m", 60.0), ("2h", 7200.0), ("0s", 0.0)],
)
def test_durations(written: str, seconds: float) -> None:
    assert Settings(wait=written).wait == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["5", "s", "5 s", "-5s", "5S", "5sec", "1m30s", "", "1e3s", 5, None, True])
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValidationError, match=r"needs a unit|unknown unit"):
        Settings(wait=written)


@pytest.mark.parametrize(
    ("written", "size"),
    [("64MiB", 67_108_864), ("10kB", 10_000), ("1B", 1), ("1.5KiB", 1536), ("2GB", 2_000_000_000), ("1MB", 10**6)],
)
def test_sizes(written: str, size: int) -> None:
    assert Settings(most=written).most == size


@pytest.mark.parametrize("written", ["64", "64mib", "64 MiB", "-1B", "MiB", "64M", "", 1.5, None])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValidationError, match=r"needs a unit|unknown unit"):
        Settings(most=written)


@pytest.mark.parametrize("written", ["127.0.0.1:8080", "[::1]:0", "digits.models.svc.cluster.local:8001", "a_b:65535"])
def test_addresses(written: str) -> None:
    assert Settings(at=written).at == written


@pytest.mark.parametrize(
    "written",
    ["127.0.0.1", ":80", "host:", "host:65536", "::1:80", "http://host:80", "host:80/x", "ho st:80", "a:1\n", 8080],
)
def test_what_is_no_address(written: object) -> None:
    with pytest.raises(ValidationError, match=r"HOST:PORT|port over"):
        Settings(at=written)


@pytest.mark.parametrize(
    ("written", "rate", "again"),
    [
        ("200/s", 200.0, "200/s"),
        ("30/m", 0.5, "30/m"),
        ("36/h", 0.01, "36/h"),
        ("1.5/s", 1.5, "90/m"),
        ("120/m", 2, "2/s"),
    ],
)
def test_rates(written: str, rate: float, again: str) -> None:
    settings = Settings(often=written)
    assert settings.often == pytest.approx(rate)
    assert settings.model_dump(mode="json")["often"] == again


@pytest.mark.parametrize("written", ["200", "200/d", "/s", "0/s", "-1/s", "1 /s", 200, None])
def test_what_is_no_rate(written: object) -> None:
    with pytest.raises(ValidationError, match="is no rate, as in"):
        Settings(often=written)


def test_what_is_read_can_be_read_again() -> None:
    settings = Settings(wait="250ms", most="1.5KiB", at="[::1]:80", often="200/s")
    written = {"wait": "250ms", "most": "1536B", "at": "[::1]:80", "often": "200/s"}
    assert settings.model_dump(mode="json") == written
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings
