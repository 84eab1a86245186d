"""An answer for people. Law: a line for each output, and what a classifier sees as bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.answers import Reply, shares
from headrace.chart import bars
from headrace.tensors import Tensor, to_values

_VALUES: Final = 8  # of an output that are shown, as far as they have room
_WIDTH: Final = 36
_LONGEST: Final = 40  # characters of a text
_CLASSES: Final = 10  # that are shown; of more, the likeliest five
_LIKELIEST: Final = 5


def parts(reply: Reply, took: float, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Who answered, what, and how sure; `took` seconds."""
    classified = [(one, found) for one in reply.outputs if (found := shares(one))]
    who = f"{reply.model} version {reply.version} ({took * 1000:.1f} ms)"
    if len(classified) == 1:
        found = classified[0][1]
        yield Text.assemble((str(found.index(max(found))), "bold"), f", says {who}")
    else:
        yield Text(who)
    yield _table(reply)
    for one, found in classified:
        if len(classified) > 1:
            yield Text(f"{one.name}:")
        yield bars(_likeliest(found), options)


def _likeliest(found: Sequence[float]) -> Mapping[int, float]:
    if len(found) <= _CLASSES:
        return dict(enumerate(found))
    return dict(sorted(enumerate(found), key=lambda pair: -pair[1])[:_LIKELIEST])


def _table(reply: Reply) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for heading in ("output", "datatype", "shape", "values"):
        table.add_column(heading, no_wrap=heading == "shape", overflow="fold")
    for one in reply.outputs:
        table.add_row(*map(Text, (one.name, one.datatype, str(list(one.array.shape)), _values(one))))
    return table


def _values(one: Tensor) -> str:
    shown = list(map(_value, to_values(one.array.ravel()[:_VALUES])))
    while len(shown) > 1 and len(", ".join(shown)) > _WIDTH:
        shown.pop()
    return ", ".join(shown) + (" ..." if one.array.size > len(shown) else "")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}...")
    return "nan" if value is None else str(value)
