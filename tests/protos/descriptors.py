"""A contract as a table of facts, so that two of them can be compared. Order and comments are not facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

Facts = dict[str, tuple[object, ...]]


def registered(*files: FileDescriptor) -> list[FileDescriptorProto]:
    """What Python modules have registered, as protos."""
    protos = []
    for file in files:
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        protos.append(proto)
    return protos


def facts(files: Iterable[FileDescriptorProto]) -> Facts:
    """Full name to all that a program can see of it, for everything in `files`; these come after what they import."""
    pool = DescriptorPool()
    found: Facts = {}
    for file in files:
        pool.Add(file)
        found |= dict(_of_file(pool.FindFileByName(file.name)))
    return found


def _of_file(file: FileDescriptor) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield (
        file.name.rpartition("/")[2],
        (
            "file",
            file.package,
            file.GetOptions().SerializeToString(),
        ),
    )
    for message in file.message_types_by_name.values():
        yield from _of_message(message)
    for enum in file.enum_types_by_name.values():
        yield from _of_enum(enum)
    for service in file.services_by_name.values():
        yield from _of_service(service)


def _of_message(message: Descriptor) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield message.full_name, ("message", message.GetOptions().map_entry, _options(message))
    for field in message.fields:
        yield field.full_name, _of_field(field)
    for oneof in message.oneofs:
        yield oneof.full_name, ("oneof", frozenset(field.name for field in oneof.fields))
    for enum in message.enum_types:
        yield from _of_enum(enum)
    for nested in message.nested_types:
        yield from _of_message(nested)


def _of_field(field: FieldDescriptor) -> tuple[object, ...]:
    named = field.message_type or field.enum_type
    return (
        "field",
        field.number,
        field.type,
        field.is_repeated,
        field.is_required,
        field.is_packed,
        field.has_presence,
        field.json_name,
        named.full_name if named else None,
        field.containing_oneof.name if field.containing_oneof else None,
        field.default_value if not named and not field.is_repeated else None,
        _options(field),
    )


def _of_enum(enum: EnumDescriptor) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield enum.full_name, ("enum", _options(enum))
    for value in enum.values:
        yield f"{enum.full_name}.{value.name}", ("value", value.number, _options(value))


def _of_service(service: ServiceDescriptor) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield service.full_name, ("service", _options(service))
    for method in service.methods:
        types = (method.input_type.full_name, method.output_type.full_name)
        streams = (method.client_streaming, method.server_streaming)
        yield method.full_name, ("method", *types, *streams, _options(method))


def _options(thing: Descriptor | FieldDescriptor | EnumDescriptor | ServiceDescriptor) -> bytes:
    options: bytes = thing.GetOptions().SerializeToString()
    return options
