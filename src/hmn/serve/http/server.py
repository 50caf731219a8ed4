"""Runs the application until a signal stops it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hmn.errors import ConfigError
from hmn.serve.http.app import make_app
from hmn.serve.http.settings import Settings
from hmn.serve.served import ServedModel

CLOSING_SECONDS = 30
"""Seconds that answers in flight may take once the server is to stop."""
IDLE_SECONDS = 20
"""Seconds for which a connection stays open without a request."""


class Patient(H11Protocol):
    """HTTP on one connection, which is closed if the head of a request does not come in time."""

    receive_seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came; as long as no request is whole, the time runs on."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Lines(logging.Formatter):
    """Log records as JSON, a line each."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line. The server's own records are JSON objects already."""
        text = record.getMessage()
        if record.name != "hmn.serve":
            text = json.dumps({"message": text})
        parts = [f'"time": "{self.formatTime(record)}", "level": "{record.levelname.lower()}"', text[1:-1]]
        if record.exc_info:
            parts.append(json.dumps({"trace": self.formatException(record.exc_info)})[1:-1])
        return "{" + ", ".join(parts) + "}"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Let the server's own log, and uvicorn's, go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in ("hmn.serve", "uvicorn"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)


def run(server: uvicorn.Server) -> None:
    """Run a server until SIGTERM or SIGINT, and return once what was in flight is answered."""
    # uvicorn stops at these signals, then raises them again for the handlers that were there before it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    if not server.started:
        raise ConfigError(f"{server.config.host}:{server.config.port}: the server did not start, see its log")


class Announced(uvicorn.Server):
    """A server that says where it is once it listens."""

    on_start: Callable[[str], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started and self.on_start is not None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.on_start(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


def make_server(
    served: ServedModel, settings: Settings, on_start: Callable[[str], None] | None = None
) -> uvicorn.Server:
    """The server of a model.

    Args:
        served: The model.
        settings: Limits and tokens.
        on_start: Called with the address, once the server listens.
    """
    protocol = type("Protocol", (Patient,), {"receive_seconds": settings.receive_seconds})
    config = uvicorn.Config(
        make_app(served, settings),
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
    server = Announced(config)
    server.on_start = on_start
    served.when_failed(lambda: setattr(server, "should_exit", True))
    return server
