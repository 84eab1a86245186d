"""xDS messages, between JSON and bytes. Law: their descriptors stand in a pool of their own.

So they meet no other package's in this process, and no package that brings them is needed. JSON is proto JSON with
proto field names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesh.ads.generate import WRITTEN

URL: Final = "type.googleapis.com/"


def encode(name: str, data: Mapping[str, Any]) -> bytes:
    """The message of a full name (`envoy.config...`), as bytes. ValueError: the message has no such field or value."""
    try:
        return json_format.ParseDict(dict(data), _class(name)(), descriptor_pool=_pool()).SerializeToString()
    except (json_format.ParseError, TypeError) as error:
        raise ValueError(f"no {name}: {error}") from None


def decode(name: str, message: bytes) -> dict[str, Any]:
    """The message as JSON; fields that are unset are absent. Raises DecodeError."""
    read = _class(name).FromString(message)
    return json_format.MessageToDict(read, preserving_proto_field_name=True, descriptor_pool=_pool())


@cache
def _class(name: str) -> type[Message]:
    return GetMessageClass(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(WRITTEN.read_bytes()).file:
        pool.Add(file)
    return pool
