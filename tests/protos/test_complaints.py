"""An outage is seen in the log, and does not fill it."""

import logging

import pytest

from protos.complaints import Complaints


def test_one_line_for_each_kind_in_a_while_and_the_next_says_how_many(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    complaints = Complaints(logging.getLogger("test"), lambda: now[0], every=10.0)
    for _ in range(100):
        complaints.warn("down", "no copy")
    complaints.warn("other", "another kind")
    assert caplog.messages == ["no copy", "another kind"]
    now[0] = 10.0
    complaints.warn("down", "no copy")
    assert caplog.messages[2:] == ["no copy (after 99 more like it, the last of them 10 s ago)"]
    now[0] = 20.0
    complaints.warn("down", "no copy")
    assert caplog.messages[3:] == ["no copy"]


def test_kinds_without_end_are_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("test"), lambda: 0.0)
    for kind in range(3000):
        complaints.warn(kind, "x")
    assert len(complaints._kinds) <= 1000


def test_an_exception_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    Complaints(logging.getLogger("test"), lambda: 0.0).warn("k", "broken", exc_info=ValueError("why"))
    assert "ValueError: why" in caplog.text
