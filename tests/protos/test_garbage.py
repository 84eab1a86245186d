"""What the garbage collector looks through in a server that is ready."""

from __future__ import annotations

import gc
import weakref

from protos.garbage import spare


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_there_is_spared_what_had_gone_is_not_kept_and_what_comes_is_found() -> None:
    kept, gone = Cycle(), weakref.ref(Cycle())
    spare()
    assert gone() is None
    assert not any(one is kept for one in gc.get_objects())
    later = weakref.ref(Cycle())
    gc.collect()
    assert later() is None
