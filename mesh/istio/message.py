"""A protobuf message as Istio's YAML spells it. Law: every key is known; what is not implemented is refused by name.

A field is written in camelCase or with its proto name, as protobuf's JSON allows; null is the same as leaving it out. A
message may know of rules between its fields: it yields them from `mistakes`, and `mistakes_of` asks a whole tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

Place = tuple[str | int, ...]
Mistake = tuple[Place, str]


def json_name(proto_name: str) -> str:
    """`per_try_timeout` -> `perTryTimeout`, as protobuf's JSON names a field. `from_` -> `from`."""
    first, *rest = proto_name.rstrip("_").split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


class Message(BaseModel):
    """One protobuf message. In Python, fields are given by their names here; `read` takes what YAML holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=json_name, populate_by_name=True)

    oneofs: ClassVar[tuple[tuple[str, ...], ...]] = ()

    @classmethod
    def read(cls, data: object) -> Self:
        """The message as written. Raises pydantic.ValidationError; rules between fields are left to `mistakes_of`."""
        return cls.model_validate(data, by_alias=True, by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _as_json(cls, data: Any) -> Any:  # noqa: ANN401 - whatever was written
        if not isinstance(data, Mapping):
            return data
        names: dict[object, str] = {name: json_name(name) for name in cls.model_fields}
        written: dict[Any, Any] = {}
        for key, value in data.items():
            name = key if key in names and str(key).endswith("_") else names.get(key, key)
            if value is None and name in names.values():
                continue
            if name in written:
                raise PydanticCustomError("twice", "{name} is given twice, by both its names", {"name": name})
            written[name] = value
        for group in cls.oneofs:
            given = [json_name(name) for name in group if json_name(name) in written]
            if len(given) > 1:
                raise PydanticCustomError("oneof", "only one of {given} can be set", {"given": " and ".join(given)})
        return written

    def mistakes(self) -> Iterator[Mistake]:
        """What Istio would refuse in how the fields fit together."""
        yield from ()


def mistakes_of(message: Message, place: Place = ()) -> Iterator[Mistake]:
    """Every mistake in a message and in what it holds, with its place from the top."""
    for where, what in message.mistakes():
        yield (*place, *where), what
    for name in type(message).model_fields:
        yield from _mistakes_in(getattr(message, name), (*place, json_name(name)))


def _mistakes_in(value: object, place: Place) -> Iterator[Mistake]:
    if isinstance(value, Message):
        yield from mistakes_of(value, place)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _mistakes_in(item, (*place, index))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _mistakes_in(item, (*place, str(key)))


def _refuse(_: object, __: ValidationInfo) -> None:
    raise PydanticCustomError("not_implemented", "not implemented")


Unimplemented = Annotated[None, BeforeValidator(_refuse)]
"""The type of a field that Istio knows and we do not: any value is refused."""


class ProtoEnum(StrEnum):
    """A protobuf enum, its members in the order of their numbers from 0: both name and number are understood."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        members = list(cls)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(members):
            return members[value]
        return None


def without(*names: str) -> AfterValidator:
    """Refuses the values of an enum that are not implemented."""

    def check(value: ProtoEnum) -> ProtoEnum:
        if value in names:
            raise PydanticCustomError("not_implemented", "not implemented: {value}", {"value": str(value)})
        return value

    return AfterValidator(check)
