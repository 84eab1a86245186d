"""A gateway's page, read: of its metrics what is shown, and nothing of others' pages."""

from __future__ import annotations

import pytest

from headrace.top.read import Admission, Call, Copies, look
from protos.metrics.described import Described, Kind
from protos.metrics.instruments import Registry
from protos.metrics.prometheus import PROTOBUF, exposed
from tests.headrace.top.stand_in import STREAM, Gateway


def test_what_is_told_is_read() -> None:
    gateway = Gateway()
    gateway.calls(3, "digits", "1", 0.003, "express")
    gateway.calls(2, "digits", "1", 0.02)
    gateway.calls(1, "digits", "1", 0.02, status="UNAVAILABLE", reason="MODEL_NOT_READY")
    gateway.calls(1, "digits", "1", 9.0, method=STREAM)
    gateway.gauges["headrace.calls.active"] = {("express",): 2.0, ("python",): 1.0}
    gateway.gauges["headrace.admission.limit"] = {("digits",): 8.0}
    gateway.gauges["headrace.admission.running"] = {("digits",): 5.0}
    gateway.gauges["headrace.copies"] = {("digits", "1"): 3.0}
    gateway.gauges["headrace.copies.ready"] = {("digits", "1"): 2.0}
    gateway.dropped.add(4, "spans")
    found = look(7.0, gateway.page())
    assert found.at == 7.0
    assert found.calls == {
        Call("digits", "1", "express", "OK", ""): 3,
        Call("digits", "1", "python", "OK", ""): 3,  # the stream, too
        Call("digits", "1", "python", "UNAVAILABLE", "MODEL_NOT_READY"): 1,
    }
    times = {bound: count for bound, count in found.times["digits", "1"].items() if count}
    assert times == {0.005: 3, 0.025: 2}  # both lanes together; neither what failed nor the stream
    assert found.active == {"express": 2, "python": 1}
    assert found.admission == {"digits": Admission(5, 8)}
    assert found.copies == {("digits", "1"): Copies(3, 2)}
    assert found.dropped == {"spans": 4}
    assert found.ready and not found.config_refused and not found.audit_failing


def test_what_needs_eyes_is_read() -> None:
    gateway = Gateway()
    gateway.gauges |= {"headrace.ready": {(): 0.0}}
    gateway.gauges |= {"headrace.config.refused": {(): 1.0}, "headrace.audit.failing": {(): 1.0}}
    found = look(0.0, gateway.page())
    assert (found.ready, found.config_refused, found.audit_failing) == (False, True, True)


def workers() -> bytes:
    registry = Registry(lambda: 0.0)
    registry.asked(Described("headrace.queue.depth", Kind.GAUGE, "", "Waiting."), lambda: {(): 1.0})
    return exposed(registry.snapshot(), PROTOBUF)[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    gateway = Gateway()
    gateway.gauges["headrace.calls.active"] = {("express",): value}
    with pytest.raises(ValueError, match=r"nan|inf"):
        look(0.0, gateway.page())


@pytest.mark.parametrize("page", [b"", b"<html>", b"\xff" * 20, Gateway().page()[:-3], workers()])
def test_what_is_no_page_of_a_gateway_is_refused(page: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of protobuf's, too
        look(0.0, page)
