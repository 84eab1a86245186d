"""Image files and what a model sees of them. Law: a pixel is a float from 0 (dark) to 1 (light), or a byte."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from headrace.failure import CommandError
from headrace.tensors import Array, Pixels, Wanted, dtype_of

_ZOOM: Final = 16  # an 8 x 8 picture is hard to see
_CHANNELS: Final = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Canvas:
    """How a model sees a picture: in which of Pillow's modes, how high and wide (-1: as it is), and as which shape."""

    mode: str
    height: int
    width: int
    flat: bool = False
    channels_first: bool = False


def canvas(wanted: Wanted) -> Canvas:
    """[N, side * side] is grey; [N, C, H, W] and [N, H, W, C] have one channel, or red, green and blue.

    Raises CommandError.
    """
    *_, last = shape = wanted.shape or (0,)
    side = isqrt(max(0, last))
    if len(shape) <= 2 and side and side * side == last:
        return Canvas("L", side, side, flat=True)
    if len(shape) in (3, 4) and shape[-3] in _CHANNELS:
        return Canvas(_CHANNELS[shape[-3]], shape[-2], shape[-1], channels_first=True)
    if len(shape) in (3, 4) and last in _CHANNELS:
        return Canvas(_CHANNELS[last], shape[-3], shape[-2])
    raise CommandError(f"{wanted} takes no picture that headrace could make of a file: give a .npy file")


def read(path: Path, wanted: Wanted) -> Array:
    """The picture as the input sees it, without the batch: bytes from 0 to 255, or floats from 0 to 1.

    Raises CommandError.
    """
    on, dtype = canvas(wanted), dtype_of(wanted)
    if wanted.datatype not in ("UINT8", "FP16", "FP32", "FP64", "BF16"):
        raise CommandError(f"{wanted} takes no picture: give a .npy file")
    try:
        with Image.open(path) as image:
            size = (image.width if on.width < 0 else on.width, image.height if on.height < 0 else on.height)
            seen = np.asarray(image.convert(on.mode).resize(size, Image.Resampling.BOX))
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise CommandError(f"{path} is no picture that can be read: give a PNG or JPEG file") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror or error}): give a PNG or JPEG file") from None
    pixels = seen if wanted.datatype == "UINT8" else (seen.astype(np.float32) / np.float32(255)).astype(dtype)
    if on.flat:
        return pixels.reshape(-1)
    deep = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(deep.transpose(2, 0, 1)) if on.channels_first else deep


def write(path: Path, pixels: Pixels) -> None:
    """A square picture, float32 [side * side], as a PNG file large enough to look at."""
    side = round(pixels.size**0.5)
    grey = Image.fromarray(np.rint(pixels.reshape(side, side) * 255).astype(np.uint8))
    grey.resize((side * _ZOOM, side * _ZOOM), Image.Resampling.NEAREST).save(path, "PNG")
