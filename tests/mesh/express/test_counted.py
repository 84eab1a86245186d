"""What is read of an Envoy's page of statistics, and what of that is new."""

from __future__ import annotations

import pytest

from headrace.counting import added_since
from mesh.express import counted
from mesh.express.counted import Bin


def test_what_is_new() -> None:
    some, later = [Bin(1, 1, 2), Bin(5, 1, 1)], [Bin(1, 1, 3), Bin(5, 1, 1), Bin(9, 1, 4)]
    assert list(added_since((), some)) == some
    assert list(added_since(some, some)) == []
    assert list(added_since(some, later)) == [Bin(1, 1, 1), Bin(9, 1, 4)]
    for again in ([Bin(1, 1, 1), Bin(5, 1, 9)], [Bin(1, 1, 9)]):  # counted from nothing
        assert list(added_since(some, again)) == again


def test_only_what_is_the_lanes_is_read() -> None:
    page = """{"stats": [
        {"name": "http.front.downstream_rq_active", "value": 3}, {"name": "server.version", "value": "x"},
        {"histograms": {"supported_percentiles": [], "details": [
            {"name": "headrace.Sent.of.a.b c", "totals": []},
            {"name": "cluster.x.upstream_rq_time", "totals": []},
            {"name": "headrace.Carried.of.a.b  g.of.1 h:1,i:2 OK",
             "totals": [{"lower_bound": 81, "width": 1, "count": 7}]}]}}]}"""
    assert dict(counted.read(page)) == {
        counted.Carried("a.b", "", "g.of.1", "h:1,i:2", "OK"): [Bin(81, 1, 7)],
    }
    assert counted.numbers(page) == {"http.front.downstream_rq_active": 3}
    with pytest.raises(ValueError, match="no page"):
        list(counted.read('{"stats": [{"histograms": {}}]}'))
