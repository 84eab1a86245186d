"""`python -m headrace.observability [TOP]` writes what watches headrace below TOP, the top of the repository."""

from __future__ import annotations

import sys
from pathlib import Path

from headrace.observability.files import write


def main(arguments: list[str]) -> int:
    """Say what has changed."""
    top = Path(*arguments)
    for path in write(top):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
