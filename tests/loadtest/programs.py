"""Other people's programs that tests run, if they are there."""

from __future__ import annotations

import shutil

import pytest

needs_nghttp2 = pytest.mark.skipif(
    not all(map(shutil.which, ("h2load", "nghttpd"))), reason="apt-get install nghttp2-client nghttp2-server"
)
needs_nghttpx = pytest.mark.skipif(shutil.which("nghttpx") is None, reason="apt-get install nghttp2-proxy")
