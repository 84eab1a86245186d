"""What Triton's python backend runs in a staged model's stead. Law: it runs inside the backend's stub, and only there.

A batch that Triton has formed is run as one where its requests fit together. What a departed caller has queued is not
run. For Triton's side of it see https://github.com/triton-inference-server/python_backend.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton  # beside the stub
from google.protobuf import json_format

from protos import model_config_pb2 as pb
from protos.errors import HeadraceError
from workers.complete import agree
from workers.config import Settings, settings
from workers.errors import LoadError
from workers.execute import Backend, split, together
from workers.python_backend import PythonModel
from workers.reading import Work
from workers.tensors import Array
from workers.triton import tensors
from workers.triton.states import States

_GONE = "the caller has left"


class Host:
    """One instance of a model; `file` is the original's, of this version."""

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model. Raises TritonModelException with the reason."""
        config = json_format.ParseDict(json.loads(args["model_config"]), pb.ModelConfig(), ignore_unknown_fields=True)
        self._name = config.name
        self._settings = settings(config)
        self._states = States.of(config)
        self._types = {tensor.name: tensor.datatype for tensor in (*self._settings.inputs, *self._settings.outputs)}
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        try:
            self._backend = self._load(self._file, config, self._settings, gpu)
        except LoadError as error:
            raise triton.TritonModelException(str(error)) from None

    @abstractmethod
    def _load(self, file: Path, config: pb.ModelConfig, made: Settings, gpu: int | None) -> Backend:
        """The model. Raises LoadError."""

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """An answer for each request; None where the model sends its answers by itself."""
        if self._settings.decoupled:
            for request in requests:
                self._stream(request)
            return None
        answers: list[Any] = [None] * len(requests)
        works: list[tuple[int, Work]] = []
        for at, request in enumerate(requests):
            try:
                if request.is_cancelled():
                    answers[at] = _failed(_GONE, triton.TritonError.CANCELLED)
                else:
                    works.append((at, self._work(request)))
            except HeadraceError as error:
                answers[at] = _refused(error)
        for group in _groups(works, batched=self._settings.max_batch_size > 0):
            done = self._run(requests, group)
            for (at, _), answer in zip(group, done, strict=True):
                answers[at] = answer
        return answers

    def finalize(self) -> None:
        """Give back what the model holds."""
        self._backend.close()

    def _work(self, request: Any) -> Work:  # noqa: ANN401 - Triton's
        inputs = {each.name(): tensors.array(each, self._types.get(each.name(), "")) for each in request.inputs()}
        inputs |= self._states.of_request(request)
        outputs = (*request.requested_output_names(), *self._states.outputs)
        batch = next(iter(inputs.values())).shape[0] if inputs and self._settings.max_batch_size > 0 else 1
        return self._backend.admit(Work(inputs, tuple(dict.fromkeys(outputs)), batch))

    def _run(self, requests: Sequence[Any], group: Sequence[tuple[int, Work]]) -> list[Any]:
        works = [work for _, work in group]
        try:
            inputs = together([work.inputs for work in works])
            outputs = self._backend.infer(inputs, tuple(dict.fromkeys(name for work in works for name in work.outputs)))
            done = []
            for (at, _), mine in zip(group, split(outputs, works), strict=True):
                self._states.keep(requests[at], mine)
                done.append(self._answer(mine, requests[at].requested_output_names()))
        except HeadraceError as error:
            return [_refused(error) for _ in group]  # one for each: Triton dies of an answer that is given twice
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its own
            triton.Logger.log_error(f"model '{self._name}': {type(error).__name__}: {error}")
            return [_failed(f"model '{self._name}' failed", triton.TritonError.INTERNAL) for _ in group]
        return done

    def _answer(self, outputs: Mapping[str, Array], names: Sequence[str]) -> Any:  # noqa: ANN401 - Triton's
        return triton.InferenceResponse([tensors.tensor(name, outputs[name], self._types[name]) for name in names])

    def _stream(self, request: Any) -> None:  # noqa: ANN401 - Triton's
        """Send each answer of a decoupled model as it comes."""
        sender = request.get_response_sender()
        try:
            work = self._work(request)
            for outputs in self._answers(work):
                if sender.is_cancelled():
                    break
                sender.send(self._answer(outputs, work.outputs))
        except HeadraceError as error:
            sender.send(_refused(error))
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its own
            triton.Logger.log_error(f"model '{self._name}': {type(error).__name__}: {error}")
            sender.send(_failed(f"model '{self._name}' failed", triton.TritonError.INTERNAL))
        sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _answers(self, work: Work) -> Iterator[dict[str, Array]]:
        assert isinstance(self._backend, PythonModel)  # noqa: S101 - Triton has no other that is decoupled
        return self._backend.stream(work.inputs)


class OnnxHost(Host):
    """A graph, run by ONNX Runtime."""

    def _load(self, file: Path, config: pb.ModelConfig, made: Settings, gpu: int | None) -> Backend:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        from workers.onnx_backend import OnnxModel  # noqa: PLC0415 - Python models need no ONNX Runtime

        model = OnnxModel.load(file, "KIND_CPU" if gpu is None else "KIND_GPU", gpu, made.threads)
        agree(config, model.graph)
        return model


class PythonHost(Host):
    """A model written in Python for our worker."""

    def _load(self, file: Path, config: pb.ModelConfig, _made: Settings, _gpu: int | None) -> Backend:
        return PythonModel.load(file, config)


def _groups(works: Sequence[tuple[int, Work]], *, batched: bool) -> list[Sequence[tuple[int, Work]]]:
    """Works that are run together: all of them where they fit, each by itself otherwise."""
    if batched and works and len({work.signature for _, work in works}) == 1:
        return [works]
    return [[each] for each in works]


def _refused(error: HeadraceError) -> Any:  # noqa: ANN401 - Triton's
    return _failed(error.public, triton.TritonError.INVALID_ARG)


def _failed(words: str, code: int) -> Any:  # noqa: ANN401 - Triton's
    return triton.InferenceResponse(error=triton.TritonError(words, code))
