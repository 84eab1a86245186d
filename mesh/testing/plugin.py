"""The pytest plugin. Law: a mesh ends with the test that asked for it; who asks for none pays for none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

if TYPE_CHECKING:
    from mesh.testing.mesh import Mesh

P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture
def mesh_up() -> Iterator[Callable[..., Mesh]]:
    """`mesh_up(folder, ...)`: a mesh in force until the test is over; arguments as for `mesh.testing.running`."""
    from mesh.testing.mesh import running  # noqa: PLC0415 - gRPC and cryptography: for tests that need them

    with contextlib.ExitStack() as stack:
        yield _entering(stack, running)


def _entering(stack: contextlib.ExitStack, make: Callable[P, AbstractContextManager[T]]) -> Callable[P, T]:
    def enter(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return stack.enter_context(make(*arguments, **options))
        except Exception as error:  # noqa: BLE001 - whatever it is, where it passed through tells a user nothing
            raise error.with_traceback(None) from None

    return enter
