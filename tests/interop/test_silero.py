"""A real model that keeps state, served as docs/sequences.md says: each caller hears of its own recording alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from gateway.server import serving
from gateway.settings import load
from tests import readme
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of
from workers.server import Options
from workers.server import serving as worker_serving

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

GUIDE = (readme.TOP / "docs" / "sequences.md").read_text()
COPIES, CALLERS, FRAMES = 3, 4, 60


def shown(language: str, of: str) -> str:
    """The guide's one block of a language that speaks of it."""
    (block,) = (each for each in re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.M | re.S) if of in each)
    return block


@pytest.fixture(scope="module")
def graph() -> Path:
    """The ONNX file, beside the tools."""
    found = [path for folder in os.get_exec_path() if (path := Path(folder, "silero_vad.onnx")).is_file()]
    assert found, "tests/interop/tools.sh fetches it"
    return found[0]


def recording(path: Path, number: int) -> np.ndarray:
    """Something like a voice: pulses at a pitch of its own, coming and going."""
    time = np.arange(FRAMES * 512) / 16000
    sound = sum(np.sin(2 * np.pi * (110 + 20 * number) * tone * time) / tone for tone in range(1, 20))
    sound = sound * np.maximum(np.sin(2 * np.pi * (0.7 + 0.3 * number) * time), 0) * 8000 / np.abs(sound).max()
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())
    return sound.astype("<i2").astype(np.float32) / 32768


def heard(graph: Path, sound: np.ndarray, *, state: bool = True) -> list[float]:
    """What the model itself says of each frame."""
    session = onnxruntime.InferenceSession(graph)
    kept, before, said = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for frame in sound.reshape(-1, 512):
        given = {"input": np.concatenate([before, frame])[None], "sr": np.array(16000), "state": kept}
        output, following = session.run(["output", "stateN"], given)
        kept, before = (following if state else kept), frame[-64:]
        said.append(float(output[0, 0]))
    return said


async def test_each_recording_is_heard_as_by_the_model_itself(tmp_path: Path, graph: Path) -> None:
    repository = tmp_path / "models"
    (repository / "vad" / "1").mkdir(parents=True)
    shutil.copy(graph, repository / "vad" / "1" / "model.onnx")
    (repository / "vad" / "config.pbtxt").write_text(shown("pbtxt", "stateN"))
    script = tmp_path / "client.py"
    script.write_text(shown("python", "sequence_start"))
    issuer = Issuer()
    async with contextlib.AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker_serving(Options(repository, "127.0.0.1:0"))) for _ in range(COPIES)
        ]
        path = in_front_of(workers[0], tmp_path, issuer, "vad")
        config = json.loads(path.read_text())
        config["models"][0]["sequence"] = yaml.safe_load(shown("yaml", "name: vad"))["models"][0]["sequence"]
        config["upstream"]["endpoints"]["vad"] = {"1": workers}
        path.write_text(json.dumps(config))
        address = (await stack.enter_async_context(serving(load(path, {}), environ={}))).grpc

        async def told(number: int, wav: Path) -> list[float]:
            client = await asyncio.create_subprocess_exec(
                *(sys.executable, str(script), address, str(wav)),
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"TOKEN": issuer.token(sub=f"caller-{number}")},
            )
            out, _ = await client.communicate()
            assert client.returncode == 0
            return [float(line.split()[1]) for line in out.decode().splitlines()]

        wavs = [tmp_path / f"{number}.wav" for number in range(CALLERS)]
        sounds = [recording(wav, number) for number, wav in enumerate(wavs)]
        answers = await asyncio.gather(*(told(number, wav) for number, wav in enumerate(wavs)))
    for sound, said in zip(sounds, answers, strict=True):
        assert said == pytest.approx(heard(graph, sound), abs=2e-4)
        assert max(abs(np.subtract(said, heard(graph, sound, state=False)))) > 0.01  # it is the state that tells
