from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hmn.serve.served import ServedModel

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
from starlette.testclient import TestClient

from hmn.serve.http.app import make_app
from hmn.serve.http.settings import Settings

Start = Callable[..., TestClient]
"""Starts an application with settings, and gives a client of it."""


@pytest.fixture
def served(bundle: Path) -> Iterator[ServedModel]:
    """The model of 24 facts, served."""
    with ServedModel.open(bundle) as model:
        yield model


@pytest.fixture
def start(served: ServedModel) -> Iterator[Start]:
    """Starts applications that serve it."""
    clients = []

    def started(**settings: object) -> TestClient:
        app = make_app(served, Settings(**settings))  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield started
    for client in clients:
        client.__exit__(None, None, None)
