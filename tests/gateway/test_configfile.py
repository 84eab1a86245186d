"""The configuration as written: every part knows its line, and every mistake in the writing is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.configfile import ConfigFile, SettingsError, read

SECTIONS = ("listen", "issuers", "grants", "models", "upstream", "telemetry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headrace.yaml"


def _read(path: Path, text: str, **environ: str) -> ConfigFile:
    path.write_text(text)
    return read(path, environ, SECTIONS)


def _mistakes(path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _read(path, text, **environ)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return [mistake.replace(str(path), "FILE") for mistake in caught.value.mistakes]


TEXT = """\
# a comment
listen:
  address: 127.0.0.1:8080

issuers:
- issuer: a
  audiences: [x,
    y]
- issuer: b
"""


def test_data_and_lines(path: Path) -> None:
    file = _read(path, TEXT)
    assert file.data == {
        "listen": {"address": "127.0.0.1:8080"},
        "issuers": [{"issuer": "a", "audiences": ["x", "y"]}, {"issuer": "b"}],
    }
    for place, line in {
        (): 1,
        ("listen",): 2,
        ("listen", "address"): 3,
        ("issuers",): 5,
        ("issuers", 0): 6,
        ("issuers", 0, "audiences"): 7,
        ("issuers", 0, "audiences", 1): 8,
        ("issuers", 1, "issuer"): 9,
    }.items():
        where = ".".join(map(str, place))
        assert file.mistake(place, "no") == f"{path}:{line}: {where}: no" if where else f"{path}:{line}: no"


def test_what_is_missing_is_told_where_it_should_be(path: Path) -> None:
    file = _read(path, TEXT)
    assert file.mistake(("issuers", 1, "audiences"), "missing") == f"{path}:9: issuers.1.audiences: missing"
    assert file.mistake(("models",), "missing") == f"{path}:1: models: missing"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "FILE:1: the file is empty"),
        ("# nothing\n", "FILE:1: the file is empty"),
        ("null\n", "FILE:1: the file is empty"),
        ("- a\n", "FILE:1: not a mapping of sections"),
        ("just words\n", "FILE:1: not a mapping of sections"),
        ("a: 1\nb: 2\na: 3\n", "FILE:3: top level: a occurs twice"),
        ("a:\n  b: 1\n  b: 1\n", "FILE:3: a: b occurs twice"),
        ("a:\n- {b: 1}\n- {b: 1,\n   b: 1}\n", "FILE:4: a.1: b occurs twice"),
        ("a: {1: x, '1': y}\n", "FILE:1: a: 1 occurs twice"),
        ("a: 1\nb: [\n", "FILE:3: "),
        ("a: 1\n\tb: 2\n", "FILE:2: "),
        ("a: 1\n b: 2\n", "FILE:2: "),
        ("a: *nothing\n", "FILE:1: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "FILE:2: "),
        ("a: !!python/object/apply:os.getcwd []\n", "FILE:1: could not determine a constructor"),
        ("a: !secret x\n", "FILE:1: could not determine a constructor"),
    ],
)
def test_mistakes_in_the_writing(path: Path, text: str, mistake: str) -> None:
    (told,) = _mistakes(path, text)
    assert told.startswith(mistake)


def test_every_key_that_occurs_twice_is_told(path: Path) -> None:
    assert _mistakes(path, "a: 1\na: 2\nb:\n  c: 1\n  c: 2\n") == [
        "FILE:2: top level: a occurs twice",
        "FILE:5: b: c occurs twice",
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("? [a, b]\n: c\n", id="key that is a list"),
        pytest.param("? {a: b}\n: c\n", id="key that is a mapping"),
        pytest.param("a: &x [*x]\n", id="list within itself"),
        pytest.param("a: &x {b: *x}\n", id="mapping within itself"),
        pytest.param("a: 2026-99-99\n", id="date that is none"),
        pytest.param("a: !!int abc\n", id="integer that is none"),
        pytest.param("a: b\x00\n", id="control character"),
    ],
)
def test_writing_that_yaml_itself_stumbles_over(path: Path, text: str) -> None:
    (told,) = _mistakes(path, text)
    assert told.startswith("FILE")


def test_files_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    for wrong, why in ((path, "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError) as caught:
            read(wrong, {}, SECTIONS)
        assert caught.value.mistakes[0].startswith(f"{wrong}: cannot be read: {why}")
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        read(path, {}, SECTIONS)


# ---- the environment ----


def test_the_environment_lies_over_the_file(path: Path) -> None:
    file = _read(
        path,
        TEXT,
        HEADRACE_LISTEN__ADDRESS="127.0.0.1:0",
        HEADRACE_LISTEN__ADMIN="null",
        HEADRACE_TELEMETRY__SAMPLE="0.5",
        HEADRACE_UPSTREAM__ENDPOINTS='{digits: {"1": [127.0.0.1:1]}}',
        OTHER_LISTEN__ADDRESS="x",
        headrace_listen__address="x",
    )
    assert file.data["listen"] == {"address": "127.0.0.1:0", "admin": None}
    assert file.data["telemetry"] == {"sample": 0.5}
    assert file.data["upstream"] == {"endpoints": {"digits": {"1": ["127.0.0.1:1"]}}}
    assert len(file.data["issuers"]) == 2
    assert set(file.data) == {"listen", "issuers", "telemetry", "upstream"}


def test_a_whole_section_can_be_replaced_and_knows_where_it_is_from(path: Path) -> None:
    file = _read(path, TEXT, HEADRACE_ISSUERS="[{issuer: c}]")
    assert file.data["issuers"] == [{"issuer": "c"}]
    assert file.mistake(("issuers", 0, "audiences"), "no") == "HEADRACE_ISSUERS: issuers.0.audiences: no"
    assert file.mistake(("listen", "address"), "no") == f"{path}:3: listen.address: no"


def test_a_mistake_names_the_variable(path: Path) -> None:
    file = _read(path, TEXT, HEADRACE_TELEMETRY__SAMPLE="5", HEADRACE_LISTEN__ADDRESS="x")
    assert file.mistake(("telemetry", "sample"), "no") == "HEADRACE_TELEMETRY__SAMPLE: telemetry.sample: no"
    assert file.mistake(("listen", "address"), "no") == "HEADRACE_LISTEN__ADDRESS: listen.address: no"
    assert file.mistake(("listen",), "no") == f"{path}:2: listen: no"


def test_a_variable_cannot_reach_into_a_list(path: Path) -> None:
    (told,) = _mistakes(path, TEXT, HEADRACE_ISSUERS__0__ISSUER="z")
    assert told.startswith("HEADRACE_ISSUERS__0__ISSUER: issuers is no section")


@pytest.mark.parametrize("value", ["[1, 2", "{a: 1, a: 2}", "!secret x"])
def test_values_that_are_no_yaml(path: Path, value: str) -> None:
    (told,) = _mistakes(path, TEXT, HEADRACE_ISSUERS=value)
    assert told.startswith("HEADRACE_ISSUERS")


def test_an_empty_variable_is_nothing(path: Path) -> None:
    assert _read(path, TEXT, HEADRACE_LISTEN__ADMIN="").data["listen"]["admin"] is None


def test_where_things_were_written_is_not_part_of_what_is_shown(path: Path) -> None:
    assert "origins" not in repr(_read(path, TEXT))
