"""Weights changed in YAML as people write it. In a text here, `<90|80>` was 90 and becomes 80."""

from __future__ import annotations

import re

import pytest

from mesh.shift.edit import UneditableError, edited

WEIGHTS = {("route", 0, "weight"): 80, ("route", 1, "weight"): 20}

LAYOUTS = {
    "flow": "route: [{destination: {host: a}, weight: <90|80>}, {destination: {host: b}, weight: <10|20>}]\n",
    "flow over lines": """\
route: [
  {destination: {host: a}, weight: <90|80>, # most
  },
  {weight:
     <10|20>,
   destination: {host: b}}  ]
""",
    "block, with comments everywhere": """\
# before
route:   # routes
# one
- destination:  # where
    host: a  # there
    # how many
  weight: <90|80>   # of 100
  # after
-
  # two

  weight   :   <10|20> #
  destination:
    host: b
# end
""",
    "quoted": """\
"route":
- {'destination': {host: a}, 'weight': '<90|80>'}
- {"destination": {host: b}, "weight": "<10|20>"}
""",
    "no weights, in flow": "route: [{destination: {host: a}<|, weight: 80>}, {destination: {}<|, weight: 20>  }]\n",
    "JSON": '{"route": [{"destination": {"host": "a"}<|, "weight": 80>}, {"destination": {}, "weight": <10|20>}]}\n',
    "no weights, in blocks": """\
route:
- destination:
    host: a
    subset: v1  # the first
<|  weight: 80
>    # a comment behind it

- destination: {host: b}   # the second
<|  weight: 20
>  headers: {request: {set: {a: b}}}
""",
    "no weight in the last line": "route:\n- {destination: {}, weight: <90|80>}\n- destination: {}<|\n  weight: 20>",
    "nothing in the destination": "route:\n- {destination: {}, weight: <90|80>}\n-   destination:\n<|    weight: 20\n>",
    "nothing behind the colon": "route:\n- {destination: {}, weight: <90|80>}\n- destination: {}\n  weight:<| 20>\n",
    "anchors and tags": """\
route:
- {destination: &a {host: a}, weight: &w !!int <90|80>}
- destination: *a
  weight: !!int <10|20>
""",
    "an alias for a destination without a weight": """\
a: &a {host: a}
b: &b {host: b}
route:
- {destination: *a<|, weight: 80>}
- destination: *b  # there
<|  weight: 20
>""",
    "numbers in other words": "route: [{destination: {}, weight: <0x5a|80>}, {destination: {}, weight: <+1_0|20>}]\n",
    "what is more than one byte": """\
route:  # 🦔 und ähnliche
- {destination: {host: "ä🦔"}, weight: <90|80>}
- {destination: {host: b}, weight: <10|20>}
""",
    "a byte order mark": "\ufeffroute: [{destination: {}, weight: <90|80>}, {destination: {}, weight: <10|20>}]\n",
}


def before(layout: str) -> str:
    return re.sub(r"<([^<>|]*)\|[^<>]*>", r"\1", layout)


def after(layout: str) -> str:
    return re.sub(r"<[^<>|]*\|([^<>]*)>", r"\1", layout)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_nothing_but_weights_changes(name: str, newline: str) -> None:
    layout = LAYOUTS[name].replace("\n", newline)
    assert edited(before(layout), 0, WEIGHTS) == after(layout)


def test_of_several_documents_one_changes() -> None:
    one = "kind: A\nroute: [{destination: {}, weight: 90}]\n"
    text = f"%YAML 1.1\n---\n# nothing\n--- ~\n--- # first\n{one}...\n---\n{one}--- # last\n{one}"
    *most, last = text.rpartition("weight: 90")[::2]
    assert edited(text, 2, {("route", 0, "weight"): 5}) == f"{most[0]}weight: 5{last}"
    assert edited(text, 1, {("route", 0, "weight"): 5}).count("weight: 90") == 2


def test_one_number_for_two_weights_may_change_in_step() -> None:
    text = "a: &r\n- {destination: {}, weight: 90}\nb: *r\n"
    both = {("a", 0, "weight"): 80, ("b", 0, "weight"): 80}
    assert edited(text, 0, both) == text.replace("90", "80")
    with pytest.raises(UneditableError, match="by an alias"):
        edited(text, 0, both | {("b", 0, "weight"): 20})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("w: &w 90\nroute: [{destination: {}, weight: *w}]", "an alias or a block"),
        ("route:\n- destination: {}\n  weight: |-\n    90\n", "an alias or a block"),
        ("d: &d {destination: {}}\nroute: [{<<: *d}]", "merged from elsewhere"),
        ("r: &r {route: []}\n<<: *r", "merged from elsewhere"),
        ("route: [90]", "no destination where one was"),
    ],
)
def test_what_cannot_be_edited_is_said(text: str, what: str) -> None:
    with pytest.raises(UneditableError, match=what):
        edited(text, 0, {("route", 0, "weight"): 80})
