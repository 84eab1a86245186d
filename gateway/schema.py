"""The JSON schema of `headrace.yaml`, for editors. Law: what it refuses is a mistake; not every mistake is refused.

What spans several keys, or is found in files, `headrace config check` knows alone. https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

from typing import Any, Final

from gateway.settings import Settings
from mesh.catalog import SHARE, written_share
from protos.units import DURATION, SIZE, written_duration, written_size

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_WRITTEN: Final = {
    DURATION["pattern"]: written_duration,
    SIZE["pattern"]: written_size,
    SHARE["pattern"]: written_share,
}
_SWITCHES: Final = ("express",)
_SWITCHED: Final = ("sequence",)


def schema() -> dict[str, Any]:
    """The schema; defaults are as a user would write them."""
    found = Settings.model_json_schema()
    for model in (found, *found["$defs"].values()):
        for name, field in model.get("properties", {}).items():
            _as_written(field)
            if name in _SWITCHES:
                field["enum"] += [True, False]
                del field["type"]
            if name in _SWITCHED:
                field["anyOf"].append({"type": "boolean"})
    return {"$schema": _DIALECT, **found, "title": "headrace.yaml"}


def _as_written(field: dict[str, Any]) -> None:
    """The default with its unit; the title, which repeats the key, is gone."""
    field.pop("title", None)
    for kind in (field, *field.get("anyOf", [])):
        write = _WRITTEN.get(kind.get("pattern"))
        if write is not None and isinstance(field.get("default"), int | float):
            field["default"] = write(field["default"])
