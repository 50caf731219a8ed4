"""Who may do what: tokens, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from hmn.serve.http.problems import Problem, not_json
from hmn.serve.http.schemas import Writes
from hmn.serve.http.settings import Settings

Guard = Callable[[Request], Awaitable[None]]
"""Raises a problem if a request is not allowed."""


def guards(settings: Settings) -> tuple[Guard, Guard]:
    """Guards of what reads, and of what writes: coroutines, which need no thread of their own."""

    async def may_read(request: Request) -> None:
        if settings.token is not None and not _has(request, settings.token, settings.read_token):
            raise _unauthorised("this needs a token")

    async def may_write(request: Request) -> None:
        _same_origin(request)
        if settings.token is None:
            if not settings.allow_writes:
                detail = "writes are off: start the server with --token-file, or --allow-writes on loopback"
                raise Problem(HTTPStatus.FORBIDDEN, detail)
        elif _has(request, settings.token):
            return
        elif _has(request, settings.read_token):
            raise Problem(HTTPStatus.FORBIDDEN, "this token allows reading alone: writes need the other one")
        else:
            raise _unauthorised("writes need a token")

    return may_read, may_write


def bearer(settings: Settings) -> list[Any]:
    """What lets the description of the API say that it takes tokens, if it does; the guards check them."""
    if settings.token is None:
        return []
    return [Depends(HTTPBearer(auto_error=False, description="A token of the server; see --token-file."))]


def writes_for(request: Request, settings: Settings) -> Writes:
    """Whether a request could write."""
    if settings.token is None:
        return "on" if settings.allow_writes else "off"
    return "on" if _has(request, settings.token) else "token"


def _unauthorised(what: str) -> Problem:
    detail = f"{what}, expected the header 'Authorization: Bearer TOKEN': see --token-file of hmn serve"
    return Problem(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})


def _has(request: Request, *secrets: str | None) -> bool:
    """Whether a request carries one of the secrets."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Starlette reads each byte as a letter
    sent = given.strip().encode("latin-1")
    found = [hmac.compare_digest(sent, secret.encode()) for secret in secrets if secret]
    return scheme.lower() == "bearer" and any(found)


def _same_origin(request: Request) -> None:
    """Refuse a write that a page from elsewhere has made a browser send."""
    origin = request.headers.get("origin")
    host = request.headers.get("host", "").lower()
    if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}:
        raise Problem(HTTPStatus.FORBIDDEN, f"origin is {origin:.200}, expected this server's own page")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise not_json(kind)
