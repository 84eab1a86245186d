"""JSON that is sent to a model. Law: each of the shapes below is told by its keys, and any other is an error.

- nested lists, for an input; or an object, with nested lists by the inputs' names
- a request of the Open Inference Protocol over REST: `{"inputs": [{"name", "datatype", "shape", "data"}]}`
- a ModelInferRequest in proto JSON, as grpcurl takes it; of both the inputs alone are read
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from google.protobuf import json_format

from headrace.failure import CommandError
from headrace.tensors import Tensor, Wanted, of_array, of_messages, of_values
from headrace.wants import Wants
from protos import grpc_service_pb2 as pb


def read(text: str, wants: Wants, only: Callable[[], Wanted], where: str) -> Iterator[Tensor]:
    """The tensors; nested lists alone are for the `only` input. Raises CommandError."""
    try:
        said = json.loads(text)
    except ValueError as error:
        raise CommandError(f"{where} is no JSON: {error}") from None
    if not isinstance(said, dict):
        yield of_values(said, only(), where)
    elif not _is_request(said):
        for name, values in said.items():
            yield of_values(values, wants.called(name, where), f"{name} in {where}")
    elif any("data" in one for one in said["inputs"]):
        for one in said["inputs"]:
            yield _of_rest(one, wants.called(one["name"], where), f"{one['name']} in {where}")
    else:
        yield from _of_proto(said, wants, where)


def _is_request(said: dict[str, Any]) -> bool:
    inputs = said.get("inputs")
    return isinstance(inputs, list) and bool(inputs) and all(isinstance(one, dict) and "name" in one for one in inputs)


def _of_rest(said: dict[str, Any], wanted: Wanted, where: str) -> Tensor:
    """Its data may be flat, or nested as its shape."""
    if said.get("datatype", wanted.datatype) != wanted.datatype:
        raise CommandError(f"{where} is {said['datatype']}, but the model takes {wanted}")
    values = np.array(said.get("data"), np.object_)
    try:
        shaped = values.reshape([int(size) for size in said.get("shape", values.shape)])
    except (TypeError, ValueError):
        raise CommandError(f"{where} has {values.size} elements, which do not fill its shape {said['shape']}") from None
    return of_values(shaped.tolist(), wanted, where)


def _of_proto(said: dict[str, Any], wants: Wants, where: str) -> Iterator[Tensor]:
    try:
        request = json_format.ParseDict(said, pb.ModelInferRequest())
        sent = of_messages(request.inputs, request.raw_input_contents)
    except (json_format.ParseError, ValueError) as error:
        raise CommandError(f"{where} is no request: {' '.join(str(error).split())}") from None
    for one in sent:
        wanted = wants.called(one.name, where)
        if one.datatype != wanted.datatype:
            raise CommandError(f"{one.name} in {where} is {one.datatype}, but the model takes {wanted}")
        yield of_array(one.array, wanted, f"{one.name} in {where}")
