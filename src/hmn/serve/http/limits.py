"""What every request passes before a route sees it: host, body, number in flight, deadline; and its log."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hmn.serve.http.metrics import Metrics
from hmn.serve.http.problems import Problem
from hmn.serve.http.settings import Settings

OPEN = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
"""Paths that answer however much there is to do."""
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of every response: nothing comes from elsewhere, and no markup runs."""
DOCS = "/docs"
"""Path of the page whose styles hold small pictures."""
DOCS_POLICY = POLICY.replace(b"img-src", b"img-src data:")
"""Content security policy of that page."""
SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""Further headers of every response."""
LOG = logging.getLogger("hmn.serve")
"""Log of requests, a JSON object per line."""


class Limits:
    """Middleware that refuses what is too much, too slow, or for another host.

    The body is read here, whole and within its limits, before a request counts as in flight. So slow clients
    take no place from others.

    Args:
        app: the application.
        settings: the limits.
        metrics: figures that are kept.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._hosts, self._in_flight = settings.allowed_hosts, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, request_id = time.perf_counter(), f"{random.getrandbits(128):032x}"
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [*SAFE_HEADERS, (b"x-request-id", request_id.encode())]
                if scope["path"].startswith("/v1/"):
                    own.append((b"cache-control", b"no-store"))
                own.append((b"content-security-policy", DOCS_POLICY if scope["path"] == DOCS else POLICY))
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        try:
            await self._limited(scope, receive, answer)
        except Problem as problem:
            if not status:
                await problem.response()(scope, receive, answer)
        except Exception:
            LOG.exception(json.dumps({"request": request_id, "error": "unexpected"}))
            if not status:
                detail = f"something failed that should not have: the log has it under request {request_id}"
                await Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail).response()(scope, receive, answer)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - began)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_host(headers.get("host", ""))
        body = await self._body(headers, receive)
        if scope["path"] in OPEN:
            await self.app(scope, _again(body, receive), send)
            return
        if self._in_flight >= self.settings.most_in_flight:
            self.metrics.refused.inc()
            detail = f"{self._in_flight} requests are worked on, which are all there may be: ask again"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "1"})
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        try:
            async with asyncio.timeout(self.settings.answer_seconds):
                await self.app(scope, _again(body, receive), send)
        except TimeoutError:
            detail = f"no answer within {self.settings.answer_seconds:g} s: ask fewer questions at a time"
            raise Problem(HTTPStatus.GATEWAY_TIMEOUT, detail) from None
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)

    def _check_host(self, host: str) -> None:
        """Refuse a request for another name, which a page from elsewhere may have pointed here."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._hosts and name.lower() not in self._hosts:
            detail = (
                f"host is {host:.200}, expected one of {', '.join(sorted(self._hosts))}: see --allow-host"
            )
            raise Problem(HTTPStatus.MISDIRECTED_REQUEST, detail)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """The body of a request, within its limits of size and time."""
        most = self.settings.most_body
        given = headers.get("content-length", "0")
        if given.isdecimal() and int(given) > most:
            raise _too_large(most)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.receive_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(HTTPStatus.BAD_REQUEST, "the client has gone")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    more = message.get("more_body", False)
                    if size > most:
                        raise _too_large(most)
        except TimeoutError:
            detail = f"the body did not come within {self.settings.receive_seconds:g} s: send it at once"
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"}) from None
        return b"".join(parts)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Count a request, and log it without what it says."""
        route = getattr(scope.get("route"), "path", None) or "other"
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        line = {
            "request": request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "milliseconds": round(1e3 * seconds, 2),
        }
        LOG.info(json.dumps(line))


def _too_large(most: int) -> Problem:
    detail = f"the body is larger than {most:,} bytes: send it in several requests"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"Connection": "close"})


def _again(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """A body that was read, to be received once more; after it, whatever else comes."""
    first = True

    async def received() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return received
