"""YAML as Istio reads it, and the places of its parts."""

from __future__ import annotations

import pytest

from mesh.istio.document import RefusedError, read_documents


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("y", True), ("Y", True), ("yes", True), ("on", True), ("TRUE", True), ("n", False), ("no", False),
        ("Off", False), ("'no'", "no"), ('"y"', "y"), ("yEs", "yEs"), ("017", 15), ("0o17", 15), ("0x1F", 31),
        ("1_000", 1000), ("0b11", 3),
        ("1:30", "1:30"), ("2001-01-01", "2001-01-01"), ("1e3", 1000.0), ("1.5", 1.5), ("~", None), ("", None),
        ("-7", -7),
        ("08", 8.0), ("5s", "5s"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars(written: str, value: object) -> None:
    (document,) = read_documents(f"a: {written}\n", "f.yaml")
    assert document.data["a"] == value
    assert type(document.data["a"]) is type(value)


def test_keys_are_texts() -> None:
    (document,) = read_documents("{1: a, y: b, x: c}", "f.yaml")
    assert document.data == {"1": "a", "true": "b", "x": "c"}


def test_documents_and_their_lines() -> None:
    first, second = read_documents("# nothing\n---\na: 1\n---\n---\nb:\n- c: 2\n- d\n", "f.yaml")
    assert (first.position(), second.position()) == ("f.yaml:3", "f.yaml:6")
    assert second.position(("b", 1)) == "f.yaml:8"
    assert second.position(("b", 0, "missing")) == "f.yaml:7"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "f.yaml:2: top level: a occurs twice"),
        ("- a\n", "f.yaml:1: not a resource"),
        ("a: [\n", "f.yaml:2"),
        ("? [a]\n: b\n", "a key is a word"),
        ("a: !!python/none x", "f.yaml:1"),
        ("a: &a [*a]", "f.yaml:1: something in it holds itself, or is nested too deep"),
        ("a: " + "[" * 3000 + "]" * 3000, "f.yaml:1: something in it holds itself, or is nested too deep"),
    ],
)
def test_what_is_no_resource(text: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words.replace("[", r"\[")):
        read_documents(text, "f.yaml")


def test_what_aliases_make_of_a_file_is_bounded() -> None:
    """Each of a few lines holds the one before nine times: a billion parts, and all memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(RefusedError, match=r"f\.yaml:1: its aliases \(\*\) make too much of it"):
        read_documents("\n".join(lines), "f.yaml")


def test_aliases_may_be_used() -> None:
    (one,) = read_documents("a: &a {b: [1, 2]}\nc: [*a, *a]\n", "f.yaml")
    assert one.data["c"] == [{"b": [1, 2]}] * 2
