"""A real server on a real socket: the client, slow connections, and how it stops."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from hmn.errors import InUseError
from hmn.serve.client import Client, ServerError
from hmn.serve.http.server import make_server
from hmn.serve.http.settings import Settings
from hmn.serve.served import ServedModel

TOKEN = "a-token"


@pytest.fixture
def port(served: ServedModel) -> Iterator[int]:
    """The port of a server that wants a token."""
    server = make_server(served, Settings(port=0, token=TOKEN, receive_seconds=0.3))
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_the_client_asks_lists_and_writes(port: int, served: ServedModel) -> None:
    with Client(f"http://127.0.0.1:{port}", TOKEN) as client:
        own = served.ask(["where was ada born?"], 2)[1][0]
        assert client.ask("where was ada born?", 2)["answers"][0]["answers"] == own[0].answers
        assert [one["question"] for one in client.ask_all(["who", "where"])] == ["who", "where"]
        assert client.ask_all([]) == []
        assert len(list(client.facts())) == 24 and len(list(client.facts(limit=7))) == 7
        new = [("zoe", "born_in", "mu")]
        assert client.add(new, {"zoe": ["Zoe"]}, key="k")["added"] == 1
        assert client.add(new, {"zoe": ["Zoe"]}, key="k")["repeated"]
        assert client.replace([("zoe", "born_in", "lemuria")])["removed"] == 1
        assert [fact["object"] for fact in client.facts(subject="zoe")] == ["lemuria"]
        assert client.remove([("zoe", "born_in", "lemuria")])["removed"] == 1
        assert client.model()["facts"] == 24
        with pytest.raises(ServerError, match="zoe") as refused:
            client.remove(new)
        assert refused.value.status == 422 and refused.value.problem["title"]
    with Client(f"http://127.0.0.1:{port}") as stranger, pytest.raises(ServerError, match="token") as refused:
        stranger.ask("who")
    assert refused.value.status == 401


def test_nobody_there_is_an_error_of_the_client() -> None:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Client(url) as client, pytest.raises(ServerError, match="hmn serve") as refused:
        client.ask("who")
    assert refused.value.status == 0


def test_a_head_that_does_not_come_closes_the_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        began = time.monotonic()
        assert slow.recv(100) == b""
        assert time.monotonic() - began < 3
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=5)) as fast:
        fast.connect()
        opened = fast.sock
        for _ in range(2):  # a connection that is used stays open
            fast.request("GET", "/healthz")
            assert fast.getresponse().read() == b"ok\n" and fast.sock is opened


@pytest.mark.usefixtures("port")
def test_a_second_server_is_refused(bundle: Path) -> None:
    with pytest.raises(InUseError, match="process"):
        ServedModel.open(bundle)
