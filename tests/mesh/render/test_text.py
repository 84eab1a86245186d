"""YAML that is read as it was meant."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mesh.istio.document import read_documents
from mesh.render.text import file_of, is_ours

WORDS = [
    *("y", "N", "on", "off", "yes", "true", "null", "~", "", "1", "017", "0o17", "0x1F", "0b1", "1_000", "1e3", "1."),
    *("-.5", "08", "1:30", "2001-01-01", "=", "<<", "# a", "a: b", "- a", "*a", "{}", "é", "a\nb", " a ", "'", '"'),
]


def read(text: str) -> Any:
    return [document.data for document in read_documents(text, "f.yaml")]


@pytest.mark.parametrize("word", WORDS)
def test_a_text_stays_one(word: str) -> None:
    assert read(file_of([{"a": word, "b": [word], word: "c"}])) == [{"a": word, "b": [word], word: "c"}]


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.lists(st.text())))
def test_whatever_is_written_is_read(data: dict[str, Any]) -> None:
    assert read(file_of([{"": "", **data}])) == [{"": "", **data}]


def test_pyyamls_own_words_would_not_be() -> None:
    changed = [word for word in WORDS if read(yaml.safe_dump({"a": word})) != [{"a": word}]]
    assert changed == ["y", "N", "0o17", "1e3", "-.5", "08"]


def test_block_style_in_the_order_given_and_nothing_by_reference() -> None:
    same = {"z": 1, "a": ["x" * 200]}
    text = file_of([{"one": same, "two": same}, {"three": {}}])
    _, _, body = text.partition("\n")
    long = "x" * 200
    assert body == f"one:\n  z: 1\n  a:\n  - {long}\ntwo:\n  z: 1\n  a:\n  - {long}\n---\nthree: {{}}\n"


def test_who_wrote_it() -> None:
    assert is_ours(file_of([{"a": "b"}]))
    assert not is_ours("a: b\n")


def test_a_text_of_several_lines_stands_line_by_line() -> None:
    text = "if a then\n  b = [[\\ '\"]]\nend\n"
    written = file_of([{"kind": text}])
    assert "  b = [[\\ '\"]]\n" in written
    assert yaml.safe_load(written) == {"kind": text}
