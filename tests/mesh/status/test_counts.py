"""What was counted, and what that means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.status.counts import Copies, Counts, copies, counts, quantile, since

NAME = "outbound|8001|v1|digits.models.svc.cluster.local"


def test_statistics_as_envoy_writes_them() -> None:
    page = {
        "stats": [
            {"name": f"cluster.{NAME};.grpc.0", "value": 284},
            {"name": f"cluster.{NAME};.grpc.14", "value": 3},
            {"name": f"cluster.{NAME};.circuit_breakers.default.cx_open", "value": 0},
            {"name": f"cluster.{NAME};.circuit_breakers.default.rq_open", "value": 1},
            {"name": f"cluster.{NAME};.upstream_rq_pending_overflow", "value": 5},
            {"name": f"cluster.{NAME};.upstream_rq_active_overflow", "value": 2},
            {
                "histograms": {
                    "supported_percentiles": [0, 100],
                    "details": [
                        {
                            "name": f"cluster.{NAME};.upstream_rq_time",
                            "totals": [
                                {"lower_bound": 0, "width": 0, "count": 4},
                                {"lower_bound": 1, "width": 0.1, "count": 6},
                            ],
                        },
                        {"name": f"cluster.{NAME};.external.upstream_rq_time", "totals": []},
                    ],
                }
            },
        ]
    }
    assert counts(page) == {
        NAME: Counts(statuses={0: 284, 14: 3}, latencies={(0, 0): 4, (1, 0.1): 6}, overflow=7, open=("rq_open",))
    }


def test_copies_as_envoy_writes_them() -> None:
    good, out = {"health_status": {"eds_health_status": "HEALTHY"}}, {"health_status": {"failed_outlier_check": True}}
    page = {"cluster_statuses": [{"name": "a", "host_statuses": [good, out, good]}, {"name": "b"}]}
    assert copies(page) == {"a": Copies(3, 1), "b": Copies(0, 0)}


def test_what_was_counted_between_two_looks() -> None:
    before = Counts({0: 10, 14: 1}, {(1, 1): 8, (2, 1): 3}, 2, ("rq_open",))
    after = Counts({0: 15, 14: 1, 13: 2}, {(1, 1): 8, (2, 1): 10}, 5)
    assert since(before, after) == Counts({0: 5, 13: 2}, {(2, 1): 7}, 3, ())


def test_an_envoy_that_was_started_anew_has_counted_from_nothing() -> None:
    assert since(Counts({0: 10}), Counts({0: 3, 14: 1})) == Counts({0: 3, 14: 1})


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 15.0), (0.99, 19.8), (1.0, 20.0)]
)
def test_quantiles_lie_where_the_bins_say(share: float, value: float) -> None:
    assert quantile({(10.0, 10.0): 2, (1.0, 1.0): 2}, share) == pytest.approx(value)


def test_no_calls_have_no_quantile() -> None:
    assert quantile({}, 0.5) is None


@given(st.dictionaries(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3)), st.integers(1, 1000), min_size=1))
def test_quantiles_never_leave_the_bins(bins: dict[tuple[float, float], int]) -> None:
    values = [quantile(bins, share / 10) for share in range(11)]
    found = [value for value in values if value is not None]
    assert len(found) == 11
    assert min(bins)[0] <= found[0] and found[-1] <= max(lower + width for lower, width in bins)
