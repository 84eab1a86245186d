from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headrace import pictures
from headrace.demo.digits import Pictures as Data
from headrace.failure import CommandError


def test_what_is_written_is_read_back(tmp_path: Path, pictures: tuple[Data, Data]) -> None:
    from headrace.pictures import read, write

    for pixels in pictures[1].pixels[:20]:
        write(tmp_path / "digit.png", pixels)
        assert np.abs(read(tmp_path / "digit.png", 8) - pixels).max() <= 0.5 / 255 + 1e-6


def test_a_colour_picture_of_another_size_is_taken(tmp_path: Path) -> None:
    Image.new("RGB", (31, 47), (255, 255, 255)).save(tmp_path / "white.jpg")
    assert np.array_equal(pictures.read(tmp_path / "white.jpg", 8), np.ones(64, np.float32))


@pytest.mark.parametrize(("name", "content"), [("text.png", b"no picture"), ("cut.png", None)])
def test_what_is_no_picture_is_told(tmp_path: Path, name: str, content: bytes | None) -> None:
    file = tmp_path / name
    if content is None:
        Image.effect_noise((64, 64), 50).save(file)
        content = file.read_bytes()[:300]
    file.write_bytes(content)
    with pytest.raises(CommandError, match="give a PNG or JPEG file"):
        pictures.read(file, 8)
