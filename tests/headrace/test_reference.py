"""The reference of metrics is what the code says; `python -m headrace.reference` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.metrics import INSTRUMENTS
from headrace import reference

TOP = Path(__file__).parents[2]


def test_it_is_written_from_the_code() -> None:
    assert (TOP / reference.METRICS).read_text() == reference.written()


def test_it_names_every_metric_and_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / reference.METRICS).parent.mkdir(parents=True)
    assert reference.main([str(tmp_path)]) == 0
    assert str(reference.METRICS) in capsys.readouterr().out
    text = (tmp_path / reference.METRICS).read_text()
    for one in INSTRUMENTS:
        assert f"`{one.exposed}`" in text
        assert all(f"`{name.replace('.', '_')}`" in text for name in one.labels)


def test_names_are_told_apart() -> None:
    assert len({one.exposed for one in INSTRUMENTS}) == len({one.name for one in INSTRUMENTS}) == len(INSTRUMENTS)
