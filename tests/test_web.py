"""What a test may rely on, that fails itself while its web server answers."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler

import pytest

from tests.web import web


def servers() -> list[threading.Thread]:
    """Those that run now; other tests' may."""
    return [thread for thread in threading.enumerate() if thread.name == "web"]


def test_nothing_of_it_is_left_where_its_test_fails() -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    urls: list[str] = []
    before = servers()

    def fail() -> None:
        with web(Answering) as url:
            urls.append(url)
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200
            raise RuntimeError("the test failed")

    with pytest.raises(RuntimeError, match="the test failed"):
        fail()
    assert servers() == before
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(urls[0], timeout=10)
