"""`headrace token decode` says what the gateway would make of a token."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from headrace import cli
from tests.gateway import world as worlds
from tests.gateway.tokens import Issuer


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def config(tmp_path: Path, issuer: Issuer) -> Path:
    grants = [
        {
            "to": {"issuer": issuer.name, "claims": {"scope": "infer:digits"}},
            "models": ["digits"],
            "actions": ["infer"],
        },
        {"to": {"issuer": issuer.name, "claims": {"scope": "ops"}}, "models": ["*"], "actions": ["manage", "inspect"]},
    ]
    return worlds.in_front_of("127.0.0.1:1", tmp_path, issuer, "digits", "faces", grants=grants)


def decoded(config: Path, token: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = cli.run(["token", "decode", "--config", str(config), token])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out.splitlines()


def test_a_good_token_and_what_it_may_do(config: Path, issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = decoded(config, issuer.token(scope="infer:digits"), capsys)
    assert code == 0
    assert lines[0] == "signed   ES256, key k1"
    assert "claim    scope: infer:digits" in lines
    assert any(line.startswith("claim    exp: 20") and " UTC (in " in line for line in lines)
    assert lines[-4:] == [
        f"good     caller tester@{issuer.name}",
        "grant    grants.0 (infer: digits) is for it",
        'grant    grants.1 (inspect, manage: *) is not: scope is "infer:digits", not ops',
        "may      digits: infer",
    ]


def test_what_it_may_do_is_told_with_its_limits(
    issuer: Issuer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {"rate": "30/m", "burst": 7, "concurrency": 3, "request": "8MiB", "priority": 2}
    to = {"issuer": issuer.name}
    grants = [
        {"to": to, "models": ["digits"], "actions": ["infer"], "limits": limits},
        {"to": to, "models": ["digits", "faces"], "actions": ["inspect"]},
    ]
    config = worlds.in_front_of("127.0.0.1:1", tmp_path, issuer, "digits", "faces", grants=grants)
    _, lines = decoded(config, issuer.token(), capsys)
    assert lines[-2:] == [
        "may      digits: infer (30/m, 7 at once; 3 at a time; 8MiB each; priority 2), inspect",
        "may      faces: inspect",
    ]


def test_a_caller_without_a_grant(config: Path, issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = decoded(config, issuer.token(scope=...), capsys)
    assert code == 1
    assert lines[-1] == "may      nothing: no grant is for this caller"
    assert lines[-2].endswith("scope is absent, not ops")


def test_why_a_token_is_refused(config: Path, issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {
        "TOKEN_EXPIRED": issuer.token(exp=1),
        "the token is for another audience": issuer.token(aud="others"),
        "no key of the issuer made the signature": Issuer().token(),
        "issuer 'https://else.example/' is not trusted": Issuer("https://else.example/").token(),
    }
    for why, token in refused.items():
        code, lines = decoded(config, token, capsys)
        assert code == 1
        assert lines[-1].startswith("refused  ")
        assert why in lines[-1]


@pytest.mark.parametrize("token", ["x", "a.b.c", "\x1b[31m"])
def test_what_is_no_token(token: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = decoded(config, token, capsys)
    assert code == 1
    assert lines == [line for line in lines if line.startswith("refused  this is no signed JWT: ")]


def test_a_claim_cannot_paint_the_terminal(config: Path, issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = decoded(config, issuer.token(name="\x1b[2J\nmay      digits: manage"), capsys)
    assert not any("\x1b" in line for line in lines)
    assert "may      digits: manage" not in lines


def test_it_is_read_from_standard_input(
    config: Path, issuer: Issuer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Bearer {issuer.token(scope='infer:digits')}\n"))
    assert cli.run(["token", "decode", "--config", str(config)]) == 0
    assert "may      digits: infer" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert cli.run(["token", "decode", "--config", str(config)]) == 1
    assert "there is no token" in capsys.readouterr().err
