from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headrace.demo.digits import Pictures as Data
from headrace.failure import CommandError
from headrace.pictures import Canvas, canvas, read, write
from headrace.tensors import Wanted

GREY = Wanted("image", "FP32", (-1, 64))


def test_what_is_written_is_read_back(tmp_path: Path, pictures: tuple[Data, Data]) -> None:
    for pixels in pictures[1].pixels[:20]:
        write(tmp_path / "digit.png", pixels)
        assert np.abs(read(tmp_path / "digit.png", GREY) - pixels).max() <= 0.5 / 255 + 1e-6


def test_a_colour_picture_of_another_size_is_taken(tmp_path: Path) -> None:
    Image.new("RGB", (31, 47), (255, 255, 255)).save(tmp_path / "white.jpg")
    assert np.array_equal(read(tmp_path / "white.jpg", GREY), np.ones(64, np.float32))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((-1, 64), Canvas("L", 8, 8, flat=True)),
        ((784,), Canvas("L", 28, 28, flat=True)),
        ((-1, 3, 224, 200), Canvas("RGB", 224, 200, channels_first=True)),
        ((1, 1, 28, 28), Canvas("L", 28, 28, channels_first=True)),
        ((-1, 480, 640, 3), Canvas("RGB", 480, 640)),
        ((-1, -1, 3), Canvas("RGB", -1, -1)),
    ],
)
def test_how_a_model_sees_a_picture_is_told_by_its_shape(shape: tuple[int, ...], expected: Canvas) -> None:
    assert canvas(Wanted("image", "FP32", shape)) == expected


@pytest.mark.parametrize("shape", [(), (-1,), (-1, 63), (-1, -1), (-1, 4, 8, 8), (-1, 8, 8, 8, 3)])
def test_other_shapes_take_none(shape: tuple[int, ...]) -> None:
    with pytest.raises(CommandError, match="takes no picture"):
        canvas(Wanted("image", "FP32", shape))


def test_a_picture_keeps_its_size_where_the_model_takes_any(tmp_path: Path) -> None:
    Image.new("L", (5, 4), 255).save(tmp_path / "white.png")
    seen = read(tmp_path / "white.png", Wanted("image", "UINT8", (-1, 3, -1, -1)))
    assert (seen.shape, seen.dtype, seen.min()) == ((3, 4, 5), np.uint8, 255)
    with pytest.raises(CommandError, match="takes no picture"):
        read(tmp_path / "white.png", Wanted("image", "INT32", (-1, 64)))


@pytest.mark.parametrize(("name", "content"), [("text.png", b"no picture"), ("cut.png", None)])
def test_what_is_no_picture_is_told(tmp_path: Path, name: str, content: bytes | None) -> None:
    file = tmp_path / name
    if content is None:
        Image.effect_noise((64, 64), 50).save(file)
        content = file.read_bytes()[:300]
    file.write_bytes(content)
    with pytest.raises(CommandError, match="give a PNG or JPEG file"):
        read(file, GREY)
