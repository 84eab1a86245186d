"""What can be configured, and what each mistake is answered with."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.access_log import STDOUT
from gateway.in_force import limits_of
from gateway.limits import NO_LIMITS, Limits, Rate
from gateway.rpcs import Action
from gateway.settings import Settings, SettingsError, load
from protos.log_settings import Logs
from tests.gateway.certificates import Authority
from tests.gateway.tokens import Issuer

GOOD = """\
listen:
  address: 127.0.0.1:8080
  admin: 127.0.0.1:9090
  tls: {certificate: tls.crt, key: tls.key}
  notice: 100ms
  drain: 10s
issuers:
- issuer: https://id.example/
  audiences: [headrace]
  jwks: file:keys/jwks.json
  algorithms: [RS256, ES256]
  leeway: 10s
  refresh: 1m
- issuer: https://discovered.example/
  audiences: [headrace]
  algorithms: [EdDSA]
- issuer: kubernetes/serviceaccount
  audiences: [headrace]
  jwks: https://id.example/jwks.json
  algorithms: [PS512]
grants:
- to: {issuer: https://id.example/, claims: {scope: "infer:*"}}
  models: [digits, "vision-*"]
  actions: [infer, inspect]
  limits: {concurrency: 64}
models:
- name: digits
  host: digits.models.svc.cluster.local:8001
  versions: {"1": {version: v1}, "2": {version: v2}}
  aliases: {stable: "1"}
  traffic: {"1": 90, "2": 10}
  timeout: 5s
  max_request: 64MiB
- name: vision-a
  host: vision-a:8001
  versions: {"1": {}}
upstream:
  mode: direct
  endpoints:
    digits: {"1": [127.0.0.1:8101, 127.0.0.1:8103], "2": 127.0.0.1:8102}
    vision-a: {"1": [127.0.0.1:8104]}
telemetry:
  otlp: http://127.0.0.1:4317
  sample: 0.1
"""
CERTIFICATE, PRIVATE_KEY = Authority().issue("127.0.0.1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "jwks.json").write_bytes(Issuer().jwks())
    (tmp_path / "tls.crt").write_bytes(CERTIFICATE)
    (tmp_path / "tls.key").write_bytes(PRIVATE_KEY)
    return tmp_path / "headrace.yaml"


def _load(path: Path, text: str = GOOD, **environ: str) -> Settings:
    path.write_text(text)
    return load(path, environ)


def _mistakes(path: Path, text: str = GOOD, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _load(path, text, **environ)
    return [mistake.replace(str(path), "FILE") for mistake in caught.value.mistakes]


def test_a_good_file(path: Path) -> None:
    settings = _load(path)
    listen, (by_file, discovered, by_url) = settings.listen, settings.issuers
    assert (listen.address, listen.admin, listen.notice, listen.drain) == (
        "127.0.0.1:8080",
        "127.0.0.1:9090",
        0.1,
        10.0,
    )
    assert listen.tls is not None
    assert (listen.tls.key, listen.tls.client_ca) == (path.parent / "tls.key", None)
    assert by_file.jwks == f"file:{path.parent / 'keys' / 'jwks.json'}"
    assert (by_file.algorithms, by_file.leeway, by_file.refresh) == (("RS256", "ES256"), 10.0, 60.0)
    assert (discovered.jwks, by_url.jwks) == (None, "https://id.example/jwks.json")
    (grant,) = settings.grants
    assert (grant.to.claims, grant.models) == ({"scope": "infer:*"}, ("digits", "vision-*"))
    assert grant.actions == (Action.INFER, Action.INSPECT)
    assert list(settings.catalog) == ["digits", "vision-a"]
    assert settings.catalog["digits"].weights == (("1", 90), ("2", 10))
    assert settings.upstream.endpoints["digits"] == {
        "1": ("127.0.0.1:8101", "127.0.0.1:8103"),
        "2": ("127.0.0.1:8102",),
    }
    assert (settings.telemetry.otlp, settings.telemetry.sample) == ("http://127.0.0.1:4317", 0.1)


def test_lines_of_the_log_go_where_spans_do(path: Path) -> None:
    assert _load(path).telemetry.log == Logs("headrace-gateway", "auto", "http://127.0.0.1:4317")
    alone = {"HEADRACE_TELEMETRY__LOGS": "false", "HEADRACE_TELEMETRY__LOG_FORMAT": "text"}
    assert _load(path, **alone).telemetry.log == Logs("headrace-gateway", "text")
    [mistake] = _mistakes(path, HEADRACE_TELEMETRY__LOG_FORMAT="xml")
    assert "'auto', 'json' or 'text'" in mistake


def test_limits_of_a_grant(path: Path) -> None:
    text = GOOD.replace(
        "limits: {concurrency: 64}",
        "limits: {rate: 200/s, burst: 400, concurrency: 64, request: 8MiB, priority: 2}",
    )
    (grant,) = _load(path, text).grants
    assert limits_of(grant.limits) == Limits(Rate(200.0, 400), 64, 8 * 1024**2, 2)
    (grant,) = _load(path, text.replace("rate: 200/s, burst: 400", "rate: 30/m")).grants
    assert limits_of(grant.limits).rate == Rate(0.5, 1)
    (grant,) = _load(
        path, text.replace("rate: 200/s, burst: 400, concurrency: 64, request: 8MiB, priority: 2", "")
    ).grants
    assert limits_of(grant.limits) == NO_LIMITS


MINIMAL = """\
issuers: [{issuer: "https://id.example/", audiences: [headrace], algorithms: [ES256]}]
models: [{name: digits, host: "digits:8001", versions: {"1": {}}}]
upstream: {endpoints: {digits: {"1": "127.0.0.1:8101"}}}
"""


def test_what_need_not_be_said(path: Path) -> None:
    settings = _load(path, MINIMAL)
    assert settings.grants == ()  # nobody may do anything
    assert (settings.listen.address, settings.listen.tls) == ("127.0.0.1:8080", None)
    assert settings.telemetry.otlp is None


def test_settings_do_not_change(path: Path) -> None:
    settings = _load(path)
    with pytest.raises(ValidationError, match="frozen"):
        settings.listen.address = "0.0.0.0:1"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        # limits
        *(
            ("limits: {concurrency: 64}", f"limits: {{{limits}}}", what)
            for limits, what in [
                ("rate: 200", "grants.0.limits.rate: 200 is no rate, as in 200/s, 30/m or 5/h"),
                ("rate: 0/s", "'0/s' is no rate"),
                ("rate: 5/d", "'5/d' is no rate"),
                ("burst: 5", "grants.0.limits.burst: bounds nothing without a rate"),
                ("concurrency: 0", "grants.0.limits.concurrency: "),
                ("priority: 0", "grants.0.limits.priority: "),
                ("requests: 5", "grants.0.limits.requests: unknown key; did you mean request?"),
            ]
        ),
        # keys
        ("  address: 127.0.0.1:8080", "  adress: 127.0.0.1:8080", "listen.adress: unknown key; did you mean address?"),
        ("telemetry:", "telemetri:", "telemetri: unknown key; did you mean telemetry?"),
        ("  leeway: 10s", "  leaway: 10s", "issuers.0.leaway: unknown key; did you mean leeway?"),
        ("  timeout: 5s", "  time_out: 5s", "models.0.time_out: unknown key; did you mean timeout?"),
        ("  sample: 0.1", "  zzzzzz: 0.1", "telemetry.zzzzzz: unknown key"),
        ("{certificate: tls.crt, ", "{certificat: tls.crt, certificate: tls.crt, ", "did you mean certificate?"),
        ("  timeout: 5s", "  retries: {attempt: 1}", "did you mean attempts?"),
        ("to: {issuer:", "to: {claim: {}, issuer:", "did you mean claims?"),
        ("  drain: 10s", "  notice: 10s", "listen: notice occurs twice"),
        # units and kinds
        ("  drain: 10s", "  drain: 10", "listen.drain: 10 needs a unit"),
        ("  drain: 10s", "  drain: 10 s", "listen.drain: '10 s' needs a unit"),
        ("  max_request: 64MiB", "  max_request: 64", "models.0.max_request: 64 needs a unit"),
        ("  address: 127.0.0.1:8080", "  address: 8080", "listen.address: 8080 is not HOST:PORT"),
        ("  sample: 0.1", "  sample: 1.5", "telemetry.sample: Input should be less than or equal to 1"),
        ("  otlp: http://127.0.0.1:4317", "  otlp: 127.0.0.1:4317", "no OTLP/gRPC endpoint"),
        ("  otlp: http://127.0.0.1:4317", "  otlp: http://127.0.0.1:4318/v1/traces", "no OTLP/gRPC endpoint"),
        ("  drain: 10s", "  express: maybe", "listen.express: Input should be 'auto', 'on', 'off' or 'external'"),
        ("  drain: 10s", "  processes: 0", "listen.processes: Input should be greater than or equal to 1"),
        ("  drain: 10s", "  processes: 2\n  express: off", "listen.processes: several take an Envoy in front"),
        ("  drain: 10s", "  processes: 2\n  express: external", "listen.processes: several take an Envoy in front"),
        ("  mode: direct", "  mode: magic", "upstream.mode: Input should be 'direct', 'mesh' or 'xds'"),
        ("  mode: direct", "  proxy: 127.0.0.1:15001", "upstream.proxy: is for the mode mesh"),
        ('"2": 127.0.0.1:8102}', '"2": []}', "upstream.endpoints.digits.2: .* at least 1 item"),
        ('"2": 127.0.0.1:8102}', "2: 127.0.0.1:8102}", "upstream.endpoints.digits.2: must be text"),
        # issuers
        ("algorithms: [EdDSA]", "algorithms: [HS256]", "issuers.1.algorithms.0: 'HS256' is none of RS256"),
        ("algorithms: [EdDSA]", "algorithms: [none]", "issuers.1.algorithms.0: 'none' is none of RS256"),
        ("algorithms: [EdDSA]", "algorithms: []", "issuers.1.algorithms: Tuple should have at least 1 item"),
        (
            "jwks: file:keys/jwks.json",
            "jwks: file:keys/none.json",
            "issuers.0.jwks: .*none.json cannot be read: No such",
        ),
        ("jwks: file:keys/jwks.json", "jwks: file:keys", "issuers.0.jwks: .*keys cannot be read: Is a directory"),
        ("jwks: file:keys/jwks.json", "jwks: http://id.example/k", "issuers.0.jwks: neither an https URL"),
        ("jwks: file:keys/jwks.json", "jwks: http://127.0.0.1@evil/k", "issuers.0.jwks: neither an https URL"),
        ("- issuer: https://discovered.example/", "- issuer: ''", "issuers.1.issuer: an issuer has a name"),
        (
            "- issuer: https://discovered.example/",
            "- issuer: somewhere",
            "issuers.1: without jwks the keys are found at",
        ),
        (
            "- issuer: https://discovered.example/",
            "- issuer: http://discovered.example/",
            "issuers.1: without jwks the keys are found at",
        ),
        (
            "- issuer: https://discovered.example/",
            "- issuer: https://id.example/",
            "issuers.1.issuer: there is another issuer https://id.example/",
        ),
        # grants
        ("to: {issuer: https://id.example/,", "to: {issuer: x,", "grants.0.to.issuer: x is not among the issuers"),
        ('models: [digits, "vision-*"]', 'models: [digits, "*-a"]', r"grants.0.models.1: '\*-a' is no pattern"),
        ('models: [digits, "vision-*"]', "models: []", "grants.0.models: Tuple should have at least 1 item"),
        ('{scope: "infer:*"}', '{scope: "*:infer"}', "grants.0.to.claims.scope: .* is no pattern"),
        ("actions: [infer, inspect]", "actions: [infer, delete]", "grants.0.actions.1: Input should be 'infer'"),
        # files
        ("certificate: tls.crt", "certificate: none.crt", "listen.tls.certificate: .*none.crt cannot be read: No such"),
        ("key: tls.key", "key: /none/tls.key", "listen.tls.key: /none/tls.key cannot be read: No such file"),
        # models
        ("- name: vision-a", "- name: digits", "models.1.name: there is another model digits"),
        ("- name: vision-a", "- name: vision/a", "models.1.name: 'vision/a' is no model name"),
        # endpoints
        ('    vision-a: {"1"', '    vision-b: {"1"', "upstream.endpoints.vision-b: there is no model vision-b"),
        ('    vision-a: {"1"', '    vision-a: {"3"', "upstream.endpoints.vision-a.3: model vision-a has no version 3"),
        (
            '    vision-a: {"1"',
            "    vision-a: {} #",
            "upstream.endpoints.vision-a: model vision-a has no endpoints for",
        ),
        (
            "127.0.0.1:8103]",
            '"[::1]:8103"]',
            "upstream.endpoints.digits.1: several copies are named by addresses of one",
        ),
        ("127.0.0.1:8103]", "here]", "upstream.endpoints.digits.1.1: 'here' is not HOST:PORT"),
    ],
)
def test_each_mistake_names_its_line(path: Path, old: str, new: str, what: str) -> None:
    assert GOOD.count(old) == 1
    told = _mistakes(path, GOOD.replace(old, new))
    matching = [mistake for mistake in told if re.search(what, mistake)]
    assert len(matching) == 1, told
    line = GOOD[: GOOD.index(old)].count("\n") + 1
    assert matching[0].startswith(f"FILE:{line}: "), matching


@pytest.mark.parametrize(
    ("old", "new", "at", "what"),
    [
        ('aliases: {stable: "1"}', 'aliases: {stable: "7"}', "aliases:", "models.0.aliases.stable: stable names"),
        ('traffic: {"1": 90, "2": 10}', 'traffic: {"1": 90, "2": 20}', "traffic:", "models.0.traffic: the weights add"),
        ('traffic: {"1": 90, "2": 10}', "traffic: {}", "- name: digits", "models.0: several versions need traffic"),
        ("  timeout: 5s", "  timeout: 0s", "timeout:", "models.0.timeout: must be more than nothing"),
        (
            "  timeout: 5s",
            "  admission: {floor: 9, ceiling: 8}",
            "timeout:",
            "models.0.admission.floor: 9 is over the ceiling, 8",
        ),
    ],
)
def test_a_model_that_does_not_fit_together_names_the_line(path: Path, old: str, new: str, at: str, what: str) -> None:
    assert GOOD.count(old) == 1
    (told,) = _mistakes(path, GOOD.replace(old, new))
    line = GOOD[: GOOD.index(at)].count("\n") + 1
    assert told.startswith(f"FILE:{line}: {what}")


def test_what_is_missing(path: Path) -> None:
    told = _mistakes(path, "listen: {}\n")
    assert told == [f"FILE:1: {name}: is missing" for name in ("issuers", "models", "upstream")]


def test_many_mistakes_are_told_at_once(path: Path) -> None:
    text = GOOD
    for old, new in {
        "  address: 127.0.0.1:8080": "  adress: 127.0.0.1:8080",
        "  drain: 10s": "  drain: 10",
        "algorithms: [EdDSA]": "algorithms: [HS256]",
        "jwks: file:keys/jwks.json": "jwks: file:none.json",
        "  timeout: 5s": "  timeout: soon",
        "  sample: 0.1": "  sample: 7",
    }.items():
        text = text.replace(old, new)
    told = _mistakes(path, text)
    assert [int(mistake.split(":")[1]) for mistake in told] == [6, 2, 10, 16, 32, 44]
    assert len(told) == 6


def test_many_things_that_do_not_fit_are_told_at_once(path: Path) -> None:
    text = GOOD.replace("- name: vision-a", "- name: digits").replace(
        "to: {issuer: https://id.example/", "to: {issuer: x"
    )
    told = "\n".join(_mistakes(path, text))
    assert "models.1.name: there is another model digits" in told
    assert "grants.0.to.issuer: x is not among the issuers" in told
    assert "upstream.endpoints.vision-a: there is no model vision-a" in told


def test_a_mistake_in_an_item_is_not_told_twice(path: Path) -> None:
    told = _mistakes(path, GOOD.replace("algorithms: [EdDSA]", "algorithms: [HS256]"))
    assert len(told) == 1


# ---- the environment ----


def test_the_environment_is_laid_over(path: Path) -> None:
    settings = _load(path, HEADRACE_LISTEN__ADDRESS="127.0.0.1:0", HEADRACE_LISTEN__ADMIN="null", HEADRACE_GRANTS="[]")
    assert (settings.listen.address, settings.listen.admin, settings.grants) == ("127.0.0.1:0", None, ())
    assert settings.listen.drain == 10.0


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("HEADRACE_LISTEN__DRAIN", "10", "listen.drain: 10 needs a unit"),
        ("HEADRACE_LISTEN__ADRESS", "127.0.0.1:1", "listen.adress: unknown key; did you mean address?"),
        ("HEADRACE_LISTENS__ADDRESS", "x", "listens: unknown key; did you mean listen?"),
        ("HEADRACE_GRANTS", "[{to: {issuer: y}, models: [digits], actions: [infer]}]", "y is not among the issuers"),
        ("HEADRACE_TELEMETRY__SAMPLE", "lots", "telemetry.sample: Input should be a valid number"),
        ("HEADRACE_LISTEN__TLS__KEY", "none.key", "listen.tls.key: .*none.key cannot be read"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(path: Path, name: str, value: str, what: str) -> None:
    (told,) = _mistakes(path, **{name: value})
    assert told.startswith(f"{name}: ")
    assert re.search(what, told)


# ---- what is shown ----


def test_no_key_is_held_or_shown(path: Path) -> None:
    settings = _load(path)
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "tls.key" in shown  # where it is, and no more
        assert "PRIVATE" not in shown
        assert "MIGHAgEAMBMG" not in shown


def test_what_follows_the_question_mark_of_a_url_is_not_shown(path: Path) -> None:
    settings = _load(path, GOOD.replace("file:keys/jwks.json", "https://id.example/jwks.json?key=hunter2"))
    assert "hunter2" not in repr(settings)
    assert settings.issuers[0].jwks == "https://id.example/jwks.json?key=hunter2"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("jwks: file:keys/jwks.json", "jwks: https://user:hunter2@id.example/jwks.json"),
        ("otlp: http://127.0.0.1:4317", "otlp: http://user:hunter2@127.0.0.1:4317"),
    ],
)
def test_passwords_in_urls_are_refused_and_not_shown(path: Path, old: str, new: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(path, GOOD.replace(old, new))
    assert "hunter2" not in str(caught.value)


def test_files_are_sought_from_the_folder_of_the_configuration(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert _load(path).listen.tls is not None
    monkeypatch.chdir(tmp_path)
    settings = load(Path("headrace.yaml"), {})
    assert settings.listen.tls is not None
    assert settings.listen.tls.key == tmp_path / "tls.key"


def test_the_access_log_is_sought_like_other_files_but_need_not_be_there(path: Path) -> None:
    assert _load(path).telemetry.access_log is None
    settings = _load(path, f"{GOOD}  access_log: keys/../access.log\n")
    assert settings.telemetry.access_log == path.parent / "access.log"
    assert not (path.parent / "access.log").exists()
    assert _load(path, f"{GOOD}  access_log: '-'\n").telemetry.access_log == STDOUT


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("logs/access.log", "there is no folder "),
        ("keys", "keys is no regular file; write - for standard output"),
        ("/dev/null", "/dev/null is no regular file"),
    ],
)
def test_what_cannot_be_an_access_log(path: Path, name: str, what: str) -> None:
    (mistake,) = _mistakes(path, f"{GOOD}  access_log: {name}\n")
    assert mistake.startswith(f"FILE:{len(GOOD.splitlines()) + 1}: telemetry.access_log: ")
    assert what in mistake


def test_an_access_log_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_args: False)  # who runs the tests may write anywhere
    (mistake,) = _mistakes(path, f"{GOOD}  access_log: access.log\n")
    assert mistake.endswith("access.log cannot be written")


def test_the_audit(path: Path) -> None:
    assert _load(path).audit is None
    found = _load(path, f"{GOOD}audit: {{file: keys/../audit.jsonl}}\n").audit
    assert found is not None
    assert (found.file, found.sample, found.on_failure) == (path.parent / "audit.jsonl", 1.0, "continue")
    assert (found.rotate, found.keep) == (100 * 1024**2, 0)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ("{file: '-'}", "audit.file: the audit is a file"),
        ("{file: keys}", "audit.file: keys is a folder"),
        ("{file: logs/audit.jsonl}", "audit.file: there is no folder "),
        ("{file: a, sample: 2}", "audit.sample: "),
        ("{file: a, rotate: 1kB}", "audit.rotate: "),
        ("{file: a, on_failure: stop}", "audit.on_failure: "),
        ("{}", "audit.file: is missing"),
    ],
)
def test_what_cannot_be_an_audit(path: Path, told: str, what: str) -> None:
    (mistake,) = _mistakes(path, f"{GOOD}audit: {told}\n")
    assert what in mistake


def test_the_audit_is_not_the_access_log(path: Path) -> None:
    (mistake,) = _mistakes(path, f"{GOOD}  access_log: a.log\naudit: {{file: keys/../a.log}}\n")
    assert mistake.endswith("audit.file: is the access log's")


@pytest.mark.parametrize(
    ("mode", "of", "what"),
    [
        (os.W_OK, "audit.jsonl", "audit.jsonl cannot be written"),
        (os.R_OK, "audit.jsonl", "audit.jsonl cannot be read"),
        (os.W_OK, "", "cannot be written, where full files are put aside"),
    ],
)
def test_an_audit_that_may_not_be_written(
    path: Path, mode: int, of: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "audit.jsonl").touch()
    denied = path.parent / of  # who runs the tests may do anything anywhere
    monkeypatch.setattr("os.access", lambda asked, wanted: (Path(asked), wanted) != (denied, mode))
    (mistake,) = _mistakes(path, f"{GOOD}audit: {{file: audit.jsonl}}\n")
    assert what in mistake


def test_variables_that_a_cluster_sets_for_a_service_of_our_name_are_none_of_ours(path: Path) -> None:
    ours = _load(path)
    environ = {"HEADRACE_PORT": "tcp://10.0.0.1:8080", "HEADRACE_SERVICE_HOST": "10.0.0.1", "HEADRACE_TOKEN": "x"}
    assert load(path, environ) == ours


def test_tls_files_that_cannot_be_used(path: Path) -> None:
    _, other = Authority().issue("127.0.0.1")
    for content, what in ((other, "listen.tls.key: the key is not the certificate's"), (b"junk", "must be PEM")):
        (path.parent / "tls.key").write_bytes(content)
        (told,) = _mistakes(path)
        assert told.startswith("FILE:4: ")
        assert what in told


@pytest.mark.parametrize("content", [b"junk", b'{"keys": []}'])
def test_a_file_of_keys_that_holds_none(path: Path, content: bytes) -> None:
    (path.parent / "keys" / "jwks.json").write_bytes(content)
    (told,) = _mistakes(path)
    assert "issuers.0.jwks: " in told


def test_a_grant_for_a_model_that_does_not_exist(path: Path) -> None:
    (told,) = _mistakes(path, GOOD.replace("models: [digits", "models: [dgits"))
    assert "there is no model dgits; did you mean digits?" in told


@pytest.mark.parametrize(("written", "read"), [("on", "on"), ("off", "off"), ("auto", "auto")])
def test_on_and_off_are_words_here(path: Path, written: str, read: str) -> None:
    """To YAML 1.1 they are truth values."""
    text = GOOD.replace("  drain: 10s", f"  drain: 10s\n  express: {written}")
    assert _load(path, text).listen.express == read
