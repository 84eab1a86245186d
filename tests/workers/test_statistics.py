"""Counters with Triton's meaning."""

from __future__ import annotations

from workers.statistics import Statistics, Times


def test_requests_and_executions_are_counted_apart() -> None:
    statistics = Statistics(lambda: 1_700_000_000_123_456_789)
    assert statistics.message("m", 1).last_inference == 0
    statistics.executed(3, Times(10, 100, 20))
    statistics.succeeded(1, 500, 50, Times(10, 100, 20))
    statistics.succeeded(2, 600, 60, Times(10, 100, 20))
    statistics.executed(1, Times(1, 2, 3))
    statistics.succeeded(1, 7, 1, Times(1, 2, 3))
    statistics.failed(900)
    message = statistics.message("m", 4)
    assert (message.name, message.version) == ("m", "4")
    assert message.last_inference == 1_700_000_000_123
    assert (message.inference_count, message.execution_count) == (4, 2)
    stats = message.inference_stats
    assert (stats.success.count, stats.success.ns) == (3, 1107)
    assert (stats.fail.count, stats.fail.ns) == (1, 900)
    assert (stats.queue.count, stats.queue.ns) == (3, 111)
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (3, 202)
    assert [
        (one.batch_size, one.compute_input.ns, one.compute_infer.ns, one.compute_output.ns, one.compute_infer.count)
        for one in message.batch_stats
    ] == [(1, 1, 2, 3, 1), (3, 10, 100, 20, 1)]
