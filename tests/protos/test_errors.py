"""Errors as values."""

from __future__ import annotations

import grpc

from protos.errors import HeadraceError, Reason, unforeseen


def test_our_logs_see_all_of_it() -> None:
    error = HeadraceError(grpc.StatusCode.UNAVAILABLE, Reason.MODEL_NOT_READY, "no copy", private="10.0.0.7:8001")
    assert str(error) == "UNAVAILABLE MODEL_NOT_READY: no copy (10.0.0.7:8001)"


def test_another_servers_words_have_no_reason() -> None:
    error = HeadraceError(grpc.StatusCode.NOT_FOUND, None, "no such input", details=b"theirs")
    assert str(error) == "NOT_FOUND -: no such input"
    assert (error.reason, error.retry_after, error.details) == (None, None, b"theirs")


def test_the_unforeseen_tells_the_id_alone() -> None:
    error = unforeseen("7f3a", "KeyError: 'secret'")
    assert (error.status, error.reason) == (grpc.StatusCode.INTERNAL, Reason.INTERNAL)
    assert error.public == "internal error (request 7f3a)"
    assert error.private == "KeyError: 'secret'"
    assert unforeseen("", "").public == "internal error"


def test_a_reasons_name_is_its_value() -> None:
    assert all(reason.name == reason.value for reason in Reason)
