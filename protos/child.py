"""A program that does not outlive us. Law: the kernel tells it that we have ended, however we end.

Linux only (prctl(2), PR_SET_PDEATHSIG). That holds for the thread that starts it, so this must be one that stays: that
of the event loop.
"""

from __future__ import annotations

import os
import signal
import sys

# In the process that becomes the program: to set it in a fork of ours would need code between fork and exec.
_LAUNCH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
if os.getppid() != int(sys.argv[2]):
    sys.exit("the parent has ended")
os.execv(sys.argv[3], sys.argv[3:])
"""


def tied(program: str, number: signal.Signals = signal.SIGKILL) -> tuple[str, ...]:
    """What to run instead of `program`, before its arguments: the same program, which gets the signal when we end."""
    return sys.executable, "-I", "-S", "-c", _LAUNCH, str(int(number)), str(os.getpid()), program
