"""All checks at once. Law: a check that fails is a finding, and takes no other with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Sequence

from headrace.doctor.finding import Check, Finding


async def found(checks: Sequence[Check]) -> list[Finding]:
    """What they say, in the order of the checks."""
    said = await asyncio.gather(*map(_said, checks))
    return [finding for each in said for finding in each]


async def _said(check: Check) -> list[Finding]:
    kept: list[Finding] = []
    try:
        findings = check.look()
        if isinstance(findings, AsyncIterable):
            async for finding in findings:
                kept.append(finding)  # noqa: PERF401 - what came before a failure stays
        else:
            await asyncio.to_thread(_keep, findings, kept)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other checks are told
        why = f"{type(error).__name__}: {error}"
        kept.append(Finding(check.area, "error", f"the check of {check.area} failed: {why}", "please report this"))
    return kept


def _keep(findings: Iterable[Finding], kept: list[Finding]) -> None:
    for finding in findings:
        kept.append(finding)  # noqa: PERF402 - what came before a failure stays
