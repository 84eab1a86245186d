"""What is written into the lane's script is what was meant."""

from __future__ import annotations

import pytest

from mesh.express.rules import Lua, literal


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (250, "250"),
        (0.1, "0.1"),
        ("a b", '"a b"'),
        ('"\\\n\0\xff', '"\\034\\092\\010\\000\\255"'),
        (["a", 1], '{"a",1}'),
        ({"te": ["x"], "9": {}}, '{["te"]={"x"},["9"]={}}'),
    ],
)
def test_literals(value: Lua, written: str) -> None:
    assert literal(value) == written


def test_what_is_no_byte_has_no_literal() -> None:
    with pytest.raises(UnicodeEncodeError):
        literal("\u20ac")
