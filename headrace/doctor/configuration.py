"""The configuration and its secrets. Law: what is wrong in it is the gateway's word; here it is said what to do."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gateway.access_log import STDOUT
from gateway.settings import Audit, Settings, SettingsError, load
from headrace.configured import good
from headrace.doctor.finding import Finding

_AREA: Final = "configuration"
_DO: Final = {
    "cannot be read": "correct the path, or let the gateway's user read the file (chown, chmod)",
    "cannot be written": "let the gateway's user write there (chown, chmod), or name another file",
    "there is no folder": "make the folder, or name another file",
}


def loaded(path: Path, environ: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, where there are good ones; and what there is to say of the file."""
    try:
        settings = load(path, environ)
    except SettingsError as error:
        return None, [Finding(_AREA, "error", mistake, _do(mistake)) for mistake in error.mistakes]
    return settings, [Finding(_AREA, "ok", good(path, settings))]


def absent(path: Path) -> Finding:
    """What there is to say where no file is named and none is here."""
    do = "name one with --config: workers, keys, ports and certificates are looked at by it"
    return Finding(_AREA, "warning", f"there is no {path} here", do)


def _do(mistake: str) -> str:
    known = (do for words, do in _DO.items() if words in mistake)
    return next(known, "correct it there; headrace config schema tells editors which keys there are")


def files(settings: Settings) -> Iterator[Finding]:
    """Whether strangers can read the private key, or change the audit; that logs can be written, loading has found."""
    tls = settings.listen.tls
    if tls is not None:
        if tls.key.stat().st_mode & stat.S_IROTH:
            yield Finding(
                "permissions", "warning", f"{tls.key} can be read by anybody here", f"run chmod o-r {tls.key}"
            )
        else:
            yield Finding("permissions", "ok", f"{tls.key} can be read, and not by anybody")
    log = settings.telemetry.access_log
    if log not in (None, STDOUT):
        yield Finding("permissions", "ok", f"access log: {log} can be written")
    if settings.audit is not None:
        yield from _audit(settings.audit)


def _audit(audit: Audit) -> Iterator[Finding]:
    folder = audit.file.parent
    if (folder if not audit.file.exists() else audit.file).stat().st_mode & stat.S_IWOTH:
        do = f"run chmod o-w {audit.file if audit.file.exists() else folder}"
        yield Finding("permissions", "warning", f"the audit {audit.file} can be changed by anybody here", do)
    else:
        yield Finding("permissions", "ok", f"audit: {audit.file} can be written, and not by anybody")
