"""Datatypes as `config.pbtxt` names them, and as the protocol does. Law: told here once."""

from __future__ import annotations

from typing import Final, cast

from protos import model_config_pb2 as pb

DATATYPES: Final[dict[pb.DataType, str]] = {
    cast("pb.DataType", pb.DataType.Value(f"TYPE_{name}")): "BYTES" if name == "STRING" else name
    for name in (
        *("BOOL", "STRING", "FP16", "FP32", "FP64", "BF16"),
        *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    )
}
"""TYPE_FP32 -> FP32, ..."""

TYPES: Final = {name: number for number, name in DATATYPES.items()}
