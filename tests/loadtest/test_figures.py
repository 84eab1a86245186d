"""The statistics of the benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from loadtest.figures import Ratio, Sample, cpu_ratio, front_ratio, own_rate_ratio, rate_ratio, summary


def _sample(calls: int, seconds: float = 1.0, cpu: float = 1.0, p50: float = 0.001, failed: int = 0) -> Sample:
    return Sample(calls, failed, seconds, cpu, p50, cpu)


def test_a_sample() -> None:
    sample = _sample(200, seconds=2.0, cpu=1.8)
    assert (sample.rate, sample.cpu_per_call, sample.busy) == pytest.approx((100.0, 0.009, 0.9))


def test_a_sample_of_nothing_has_no_price() -> None:
    assert _sample(0).cpu_per_call == math.inf
    assert _sample(0).rate == 0


def test_a_summary_adds_counts_and_takes_medians() -> None:
    of = summary([_sample(100, cpu=0.5, p50=3), _sample(300, cpu=0.6, p50=1, failed=2), _sample(200, cpu=1.0, p50=2)])
    assert (of.calls, of.failed, of.rate, of.p50, of.busy) == (600, 2, 200, 2, 0.6)
    assert of.cpu_per_call == pytest.approx(0.005)


def test_nothing_has_no_summary() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        summary([])


def test_rounds_are_compared_one_by_one() -> None:
    """The machine slows down fourfold meanwhile: rates say 0.17 to 2.8, but each round says about 0.7."""
    subject = [_sample(70), _sample(36), _sample(17)]
    baseline = [_sample(100), _sample(50), _sample(25)]
    assert rate_ratio(subject, baseline) == Ratio(median=0.70, low=0.68, high=0.72)


def test_processor_time_forgives_what_others_take() -> None:
    """Someone else has half of the processor while the subject is measured."""
    subject, baseline = [_sample(35, cpu=0.5)], [_sample(100, cpu=1.0)]
    assert rate_ratio(subject, baseline) == Ratio(0.35, 0.35, 0.35)
    found = cpu_ratio(subject, baseline)
    assert found is not None
    assert found.median == pytest.approx(0.70)


@pytest.mark.parametrize("of", [rate_ratio, own_rate_ratio, cpu_ratio, front_ratio])
def test_no_ratio_to_nothing_or_of_nothing(of: Callable[[list[Sample], list[Sample]], Ratio | None]) -> None:
    assert of([_sample(5)], [_sample(0)]) is None
    assert of([_sample(0)], [_sample(5)]) is None


def test_rounds_must_match() -> None:
    with pytest.raises(ValueError, match="zip"):
        rate_ratio([_sample(1)], [_sample(1), _sample(1)])


def test_rates_are_their_own_only_in_rounds_in_which_both_were_busy() -> None:
    subject = [_sample(70, cpu=0.95), _sample(10, cpu=0.2), _sample(72, cpu=0.9)]
    assert own_rate_ratio(subject, [_sample(100)] * 3) == Ratio(0.71, 0.70, 0.72)
    assert own_rate_ratio(subject, [_sample(100), _sample(100), _sample(50, cpu=0.5)]) is None


def test_a_clock_that_has_not_ticked_tells_no_price() -> None:
    assert cpu_ratio([_sample(5, cpu=0)], [_sample(5)]) is None
    assert front_ratio([_sample(5)], [_sample(5, cpu=0)]) is None


def test_the_spread_is_the_range_of_the_rates() -> None:
    assert summary([_sample(90), _sample(100), _sample(120)]).spread == pytest.approx(0.3)
    assert summary([_sample(0)]).spread == math.inf
