"""Pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import plot
from loadtest.children import Broken

PANELS = [
    plot.Bars("costs", "µs", {"ours": 2.0, "theirs": 1.0}),
    plot.Lines("more", "n", "µs", {"a": [(1, 2), (10, 3)]}),
]


def test_the_same_figures_give_the_same_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        plot.draw(tmp_path / name, PANELS)
    drawn = (tmp_path / "one").read_text()
    assert drawn == (tmp_path / "two").read_text()
    assert "theirs" in drawn


def test_what_draws_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    with pytest.raises(Broken, match=r"there is no matplotlib: pip install 'headrace\[bench\]' brings it"):
        plot.needed()
