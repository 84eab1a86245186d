"""What the worker tells callers and operators when it cannot. Law: every refusal of the worker is worded here.

A `LoadError` is for whoever keeps the repository; the rest are `HeadraceError`s for whoever calls.
"""

from __future__ import annotations

from typing import Final

import grpc

from protos.errors import HeadraceError, Reason

_SHED_FOR: Final = 0.1  # seconds after which a full queue may have room
_NOT_READY_FOR: Final = 1.0  # seconds after which a model may be loaded


class StartError(Exception):
    """A server that cannot start. Its text is one sentence that says what is wrong and what to do."""


class LoadError(Exception):
    """A model that cannot be served.

    `public` is one sentence that names the model, the file and what to do; `private`, which callers do not read, what
    the model's own code or ONNX Runtime said.
    """

    def __init__(self, public: str, private: str = "") -> None:
        super().__init__(f"{public}: {private}" if private else public)
        self.public = public
        self.private = private


def malformed(public: str) -> HeadraceError:
    """The request cannot be read, or does not fit the model."""
    return HeadraceError(grpc.StatusCode.INVALID_ARGUMENT, Reason.REQUEST_MALFORMED, public)


def model_unknown(model: str) -> HeadraceError:
    """The repository has no such model."""
    return HeadraceError(grpc.StatusCode.NOT_FOUND, Reason.MODEL_UNKNOWN, f"there is no model '{model}' here")


def version_unknown(model: str, version: int) -> HeadraceError:
    """The model has no such version, or its version policy does not serve it."""
    return HeadraceError(
        grpc.StatusCode.NOT_FOUND, Reason.VERSION_UNKNOWN, f"model '{model}' serves no version {version}"
    )


def not_ready(model: str) -> HeadraceError:
    """The repository has the model, but it is not loaded."""
    return HeadraceError(
        grpc.StatusCode.UNAVAILABLE,
        Reason.MODEL_NOT_READY,
        f"model '{model}' is not loaded",
        retry_after=_NOT_READY_FOR,
    )


def not_loadable(error: LoadError) -> HeadraceError:
    """What a manager of models is told when a load fails."""
    return HeadraceError(grpc.StatusCode.FAILED_PRECONDITION, Reason.MODEL_NOT_READY, error.public, private=str(error))


def sequence_unknown(sequence: str, model: str) -> HeadraceError:
    """A sequence has not begun here, or is over; in Triton's words, for which callers look."""
    return HeadraceError(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.SEQUENCE_LOST,
        f"inference request for sequence {sequence} to model '{model}' must specify the START flag on the first "
        "request of the sequence",
    )


def overloaded(model: str) -> HeadraceError:
    """The model's queue is full."""
    return HeadraceError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.OVERLOADED,
        f"the queue of model '{model}' is full; try again later",
        retry_after=_SHED_FOR,
    )


def out_of_time() -> HeadraceError:
    """The caller's deadline, or the queue's, passed before the work could begin."""
    return HeadraceError(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE, "time was up before the model was free")


def not_here(public: str) -> HeadraceError:
    """Part of the protocol that this worker does not serve."""
    return HeadraceError(grpc.StatusCode.UNIMPLEMENTED, None, public)
