"""docs/management.md says of every call who gets it, and its settings are read and rendered."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from gateway.rpcs import RPCS
from gateway.settings import load
from headrace.rendering import source_of
from mesh.render.files import render
from tests import readme
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of

TEXT = (readme.TOP / "docs" / "management.md").read_text()


def test_every_call_but_inference_is_told_of() -> None:
    table = TEXT[TEXT.index("| call |") : TEXT.index("How many copies have answered")]
    told = {name for name in re.findall(r"`(\w+)`", table) if f"/inference.GRPCInferenceService/{name}" in RPCS}
    assert told == {rpc.name for rpc in RPCS.values() if not rpc.shared_memory} - {"ModelInfer", "ModelStreamInfer"}


def test_the_settings_are_read_and_rendered(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    shown = yaml.safe_load(block)
    path = in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", **shown, upstream={"mode": "mesh"})
    (file,) = (text for name, text in render(source_of(load(path, {})), {}).items() if name == "digits.yaml")
    assert [f"subset: v{copy}" in file for copy in ("1-copy0", "1-copy1", "2-copy0", "2-copy1")] == [True] * 3 + [False]


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (readme.TOP / "docs" / target).exists(), target
