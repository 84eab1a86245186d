"""Image files and what a model sees of them. Law: a pixel is a float from 0 (dark) to 1 (light)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from headrace.failure import CommandError

Pixels = npt.NDArray[np.float32]

_ZOOM: Final = 16  # an 8 x 8 picture is hard to see


def read(path: Path, side: int) -> Pixels:
    """The picture in grey, `side` x `side`, as float32 [side * side]. Raises CommandError."""
    try:
        with Image.open(path) as image:
            grey = image.convert("L").resize((side, side), Image.Resampling.BOX)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise CommandError(f"{path} is no picture that can be read: give a PNG or JPEG file") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror or error}): give a PNG or JPEG file") from None
    return np.asarray(grey, dtype=np.float32).reshape(-1) / np.float32(255)


def write(path: Path, pixels: Pixels) -> None:
    """A square picture, float32 [side * side], as a PNG file large enough to look at."""
    side = round(pixels.size**0.5)
    grey = Image.fromarray(np.rint(pixels.reshape(side, side) * 255).astype(np.uint8))
    grey.resize((side * _ZOOM, side * _ZOOM), Image.Resampling.NEAREST).save(path, "PNG")
