"""The examination. Law: the standard library is all it needs.

It finds what can be found with the packages that there are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from headrace.doctor.finding import Check, Finding
from headrace.doctor.packages import FindDistribution, packages
from headrace.doctor.runner import found

_HERE: Final = Path("headrace.yaml")


async def examined(
    config: Path | None, environ: Mapping[str, str], find_distribution: FindDistribution
) -> list[Finding]:
    """What every check finds, of this configuration or of `headrace.yaml` here.

    Where packages lack that the others need, what the first one finds.
    """
    first = Check("packages", partial(packages, find_distribution, sys.version_info[:3]))
    try:
        from headrace.doctor import configuration  # noqa: PLC0415 - pydantic, aiohttp, gRPC: any may lack
        from headrace.doctor.every import Here, checks  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001 - packages that do not fit together raise anything
        why = f"headrace cannot be imported: {type(error).__name__}: {error}"
        do = "put the packages right; the rest is looked at then"
        return [*await found([first]), Finding("packages", "error", why, do)]
    path = config or (_HERE if _HERE.exists() else None)
    settings, said = configuration.loaded(path, environ) if path else (None, [configuration.absent(_HERE)])
    return await found([first, Check("configuration", lambda: said), *checks(settings, Here(environ))])


def failed(findings: list[Finding]) -> int:
    """The exit code."""
    return int(any(one.level == "error" for one in findings))
