"""``hmn serve`` in a process of its own, and clients that ask it without a pause."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

READY_SECONDS = 120.0
"""Upper limit of the time that a server takes to start."""
CLOSING_SECONDS = 60.0
"""Upper limit of the time that it takes to stop."""
JSON = {"Content-Type": "application/json"}
"""Headers of a request with a body."""

Request = tuple[str, str, Any]
"""Method, path and body of a request."""


class GoneError(Exception):
    """The server did not answer: its process has ended."""


class Connection:
    """One connection to a server, kept open."""

    def __init__(self, port: int) -> None:
        self._http = HTTPConnection("127.0.0.1", port, timeout=60)

    def raw(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, bytes]:
        """Status and body of a response.

        Raises:
            GoneError: there was none, or not the whole of it.
        """
        headers = {} if body is None else dict(JSON)
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            self._http.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = self._http.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            raise GoneError(str(error)) from error

    def json(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """A response that must be there, and be no error."""
        status, text = self.raw(method, path, body, key)
        if status != 200:
            raise SystemExit(f"{method} {path}: status {status}, expected 200: {text.decode()[:500]}")
        return json.loads(text)

    def close(self) -> None:
        """Close it."""
        self._http.close()


class Server:
    """A server of a model, ready once it is made.

    Args:
        model: folder of the model.
        log: file to which its log is appended.

    Attributes:
        seconds: time from its start until it was ready.
    """

    def __init__(self, model: Path, log: Path) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._log = log.open("a")
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [*command(model), "--port", str(self.port), "--allow-writes"], stderr=self._log
        )
        while not self._is_ready():
            if self._process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                self.kill()
                raise SystemExit(f"the server of {model} did not start, expected it to: read {log}")
            time.sleep(0.01)
        self.seconds = time.perf_counter() - began

    def __enter__(self) -> Server:
        """The server itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it if it still runs."""
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def connect(self) -> Connection:
        """A connection to it."""
        return Connection(self.port)

    def kill(self) -> None:
        """End its process at once, as ``kill -9`` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it finish what it does."""
        self._end(signal.SIGTERM)

    def resident_mb(self) -> float:
        """The memory that it takes, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _end(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(CLOSING_SECONDS)
        self._log.close()

    def _is_ready(self) -> bool:
        connection = Connection(self.port)
        try:
            return connection.raw("GET", "/readyz")[0] == 200
        except GoneError:
            return False
        finally:
            connection.close()


def command(model: Path) -> list[str]:
    """What serves a model."""
    return [sys.executable, "-m", "hmn.cli", "serve", str(model)]


class Sample(NamedTuple):
    """A request with its response.

    Attributes:
        request: what was asked.
        seconds: time until the whole response was there.
        status, body: the response.
    """

    request: Request
    seconds: float
    status: int
    body: bytes


def crowd(
    server: Server, clients: int, seconds: float, request: Callable[[int, int], Request | None]
) -> list[Sample]:
    """Let clients ask for some time, each the next thing as soon as it has an answer.

    Args:
        server: the server.
        clients: number of clients, one connection each.
        seconds: how long.
        request: request ``number`` of ``client``; None if there is nothing more to ask.
    """
    samples: list[list[Sample]] = [[] for _ in range(clients)]
    failed: list[BaseException] = []

    def run(client: int) -> None:
        connection, number = server.connect(), 0
        try:
            while time.perf_counter() < end:
                asked = request(client, number)
                if asked is None:
                    break
                began = time.perf_counter()
                status, body = connection.raw(*asked)
                samples[client].append(Sample(asked, time.perf_counter() - began, status, body))
                number += 1
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    end = time.perf_counter() + seconds
    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [sample for own in samples for sample in own]


def milliseconds(seconds: list[float], percent: float) -> float:
    """A percentile of some times, in ms."""
    return round(1e3 * float(np.percentile(seconds, percent)), 2)
