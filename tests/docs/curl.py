"""Runs the ``curl`` commands of a page against a served model, without a socket."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from tests.docs.pages import Block

TOKEN = "token-of-the-pages"


def run_curl(block: Block) -> None:
    """Run a block of ``curl`` commands one after the other; each must succeed."""
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    from starlette.testclient import TestClient

    from hmn.serve.http.app import make_app
    from hmn.serve.http.settings import Settings
    from hmn.serve.served import ServedModel

    words = shlex.split(block.text.replace("\\\n", " ").replace("$TOKEN", TOKEN))
    starts = [place for place, word in enumerate(words) if word == "curl"]
    with (
        ServedModel.open(Path("model")) as served,
        TestClient(make_app(served, Settings(token=TOKEN)), base_url="http://127.0.0.1:8000") as client,
    ):
        for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
            method, url, headers, body = _parsed(block, words[start + 1 : end])
            response = client.request(method, url, headers=headers, content=body)
            assert response.status_code == 200, f"{block.place}: {method} {url}: {response.text}"


def _parsed(block: Block, words: list[str]) -> tuple[str, str, dict[str, str], str | None]:
    """Method, address, headers and body of a command."""
    method, url, body = "GET", "", None
    headers: dict[str, str] = {}
    given = iter(words)
    for word in given:
        if word == "-X":
            method = next(given)
        elif word == "-H":
            name, value = next(given).split(": ", 1)
            headers[name] = value
        elif word == "--json":
            body = next(given)
            headers["Content-Type"] = "application/json"
            method = "POST" if method == "GET" else method
        else:
            assert word.startswith("http://127.0.0.1:8000/"), f"{block.place}: {word!r} is not understood"
            url = word
    return method, url, headers, body
