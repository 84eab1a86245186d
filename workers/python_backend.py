"""Models written in Python. Law: a model's code is called here alone, and only in its instance's own thread.

`NAME/VERSION/model.py` has one class, `Model`:

    class Model:
        def __init__(self, folder: pathlib.Path, config: dict[str, object]) -> None: ...
        def infer(self, inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]: ...
        def close(self) -> None: ...    # if there is something to give back

`folder` is the version's; `config` is the model's configuration in the fields' own names. Where `max_batch_size` is not
0 the first dimension of every array is the batch, of requests that happened to wait together. Inputs may be read-only;
BYTES are arrays of `bytes`, BF16 is `ml_dtypes.bfloat16`. An output has the dtype that `config.pbtxt` says; BYTES may
be `bytes` or `str`. With `model_transaction_policy { decoupled: true }`, `infer` is a generator: each dict that it
yields is one response, and none is an answer too. With `sequence_batching`, `inputs` also hold the states of the
sequence, whose next ones are among what `infer` returns, and the signals of where in it the request is. An instance is
never called twice at once; `instance_group.count` makes several, and each imports the file for itself: import,
`__init__`, `infer` and `close` all run in its one thread.
What `infer` raises, callers see as an internal error, unless it is a `protos.errors.HeadraceError`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from google.protobuf import json_format

from protos import model_config_pb2 as pb
from workers.errors import LoadError
from workers.reading import Work
from workers.tensors import Array

Answer = dict[str, Array]


class Contract(Protocol):
    """What the class `Model` must have."""

    def __init__(self, folder: Path, config: dict[str, object]) -> None: ...

    def infer(self, inputs: dict[str, Array]) -> Answer | Iterator[Answer]:
        """One answer, or each answer of a decoupled model."""


class PythonModel:
    """One instance of a model's class."""

    provider = "python"

    def __init__(self, model: Contract) -> None:
        self._model = model

    @classmethod
    def load(cls, file: Path, config: pb.ModelConfig) -> PythonModel:
        """Import the file and make an instance, in the thread that will run it. Raises LoadError."""
        try:
            model: object = getattr(_module(file), "Model", None)
            if isinstance(model, type):
                described = json_format.MessageToDict(config, preserving_proto_field_name=True)
                return cls(cast("type[Contract]", model)(file.parent, described))
        except (Exception, SystemExit) as error:
            raise LoadError(f"{file.name} cannot be loaded", f"{type(error).__name__}: {error}") from error
        raise LoadError(f"{file.name} has no class Model")

    def admit(self, work: Work) -> Work:
        """The work as it is."""
        return work

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Answer:
        """The one answer, with at least the outputs asked for. Raises what the model raises."""
        answer = self._model.infer(dict(inputs))
        if not isinstance(answer, dict):
            raise TypeError(f"infer returned a {type(answer).__name__}, not a dict of arrays")
        return {name: answer[name] for name in outputs}

    def stream(self, inputs: Mapping[str, Array]) -> Iterator[Answer]:
        """Each answer of a decoupled model."""
        answers = self._model.infer(dict(inputs))
        if isinstance(answers, dict):
            raise TypeError("infer of a decoupled model must be a generator")
        return answers

    def close(self) -> None:
        """Let the model give back what it holds, if it has a `close`."""
        close = getattr(self._model, "close", None)
        if callable(close):
            close()


def _module(file: Path) -> ModuleType:
    """The file as a module of its own; read anew each time, and leaving no bytecode in the repository."""
    module = ModuleType(f"headrace_model_{file.parent.parent.name}_{file.parent.name}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look themselves up there
    exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)  # noqa: S102 - to run it is its purpose
    return module
