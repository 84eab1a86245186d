"""What a caller reads when a sequence fails: its own id, and that it must begin anew."""

from __future__ import annotations

import grpc
import pytest

from gateway.choose import Route
from gateway.sequence_told import in_stream, of_sequence
from mesh.catalog import Model
from protos import grpc_service_pb2 as pb
from protos.errors import HeadraceError, Reason, unforeseen

Code = grpc.StatusCode
MODEL = Model.model_validate({"name": "vad", "host": "vad.svc:8001", "versions": {"1": {}}, "sequence": True})
KNOWN = "9102196553738260612"
UNKNOWN = f"inference request for sequence {KNOWN} to model 'vad' must specify the START flag on the first request of "
UNKNOWN += "the sequence"
TOLD = UNKNOWN.replace(KNOWN, "7") + "; if it has begun, its state is lost: begin anew, under another sequence_id"


def route(sequence: str = KNOWN, *, start: bool = False) -> Route:
    return Route(MODEL, "1", True, b"", sequence, "7", start)


def failure(reason: Reason | None, public: str = "words", status: Code = Code.UNAVAILABLE) -> HeadraceError:
    return HeadraceError(status, reason, public, private="10.1.2.3 is gone", retry_after=1.0, details=b"a worker's")


def test_a_copy_that_does_not_answer_has_lost_the_sequence() -> None:
    error = of_sequence(failure(Reason.MODEL_NOT_READY), route())
    assert (error.status, error.reason, error.retry_after) == (Code.ABORTED, Reason.SEQUENCE_LOST, None)
    assert "sequence 7 " in error.public
    assert error.private == "10.1.2.3 is gone"


def test_so_has_one_whose_sidecar_resets_the_stream() -> None:
    error = unforeseen("7f", "the worker, or the mesh, says INTERNAL: Received RST_STREAM with error code 2")
    assert of_sequence(error, route()).reason is Reason.SEQUENCE_LOST
    error = unforeseen("7f", "the worker, or the mesh, says INTERNAL: internal error")  # a model's own
    assert of_sequence(error, route()) is error


@pytest.mark.parametrize(
    ("reason", "where"),
    [
        (Reason.MODEL_NOT_READY, route(start=True)),  # it may begin once more
        (Reason.MODEL_NOT_READY, route("")),
        (Reason.OVERLOADED, route()),  # nothing was done
        (None, route()),  # words that name no sequence
    ],
)
def test_what_is_not_lost_is_told_as_ever(reason: Reason | None, where: Route) -> None:
    error = failure(reason)
    assert of_sequence(error, where) is error


def test_a_copy_that_does_not_know_it_is_told_in_its_words() -> None:
    error = of_sequence(failure(None, UNKNOWN, Code.INVALID_ARGUMENT), route())
    assert (error.status, error.reason, error.details) == (Code.INVALID_ARGUMENT, Reason.SEQUENCE_LOST, None)
    assert error.public == TOLD
    other = of_sequence(failure(None, f"sequence {KNOWN} is odd", Code.INVALID_ARGUMENT), route())
    assert (other.reason, other.public) == (None, "sequence 7 is odd")


def test_in_a_stream_the_words_alone_are_another() -> None:
    echo = pb.ModelInferResponse(id=KNOWN, raw_output_contents=[KNOWN.encode()])
    said = pb.ModelStreamInferResponse(error_message=UNKNOWN, infer_response=echo)
    read = pb.ModelStreamInferResponse.FromString(in_stream(said.SerializeToString(), route()))
    assert read.error_message == TOLD
    assert read.infer_response == echo
    good = pb.ModelStreamInferResponse(infer_response=echo).SerializeToString()
    assert in_stream(good, route()) is good
    assert in_stream(b"\xff" + KNOWN.encode(), route()) == b"\xff" + KNOWN.encode()
    assert in_stream(good, route("")) is good
