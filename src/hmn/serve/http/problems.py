"""Errors as problem details (RFC 9457): what, what was expected, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import takewhile
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from hmn.errors import HMNError, JournalError, KeyReuseError, RankError, ReadOnlyError

MEDIA_TYPE = "application/problem+json"
"""Media type of errors."""
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {}}}
    for status, text in {
        400: "The request cannot be read.",
        401: "A token is needed.",
        403: "This is not allowed.",
        408: "The body came too slowly.",
        409: "The idempotency key was used for another write.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        421: "The server is not called by this name.",
        422: "The request is not as expected, or does not fit the table.",
        503: "Too much to do: come again.",
        504: "No answer in time.",
    }.items()
}
"""Errors of the routes, for their description."""
STATUS = {
    KeyReuseError: HTTPStatus.CONFLICT,
    JournalError: HTTPStatus.SERVICE_UNAVAILABLE,
    RankError: HTTPStatus.SERVICE_UNAVAILABLE,
    ReadOnlyError: HTTPStatus.FORBIDDEN,
}
"""Status codes of mistakes that are not the request's alone."""
FORMS = frozenset({"string_type", "list_type"})
"""Types of faults of a field with several forms that has another form."""
UNION = re.compile(r"constrained-str|list\[.*\]")
"""Pattern of what pydantic puts into the place of a fault for each form of such a field."""
PLACES = 5
"""Upper limit of faults of a request that are named."""


class Problem(Exception):  # noqa: N818
    """An error that goes to the client.

    Args:
        status: status code.
        detail: what, got, expected, next step.
        headers: headers of the response.
        more: further members of the problem.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, headers, more

    def response(self) -> JSONResponse:
        """The problem as a response."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return JSONResponse(body, self.status, self.headers, MEDIA_TYPE)


def handle_errors(app: FastAPI) -> None:
    """Let an application answer with problem details whatever goes wrong."""

    @app.exception_handler(Problem)
    async def on_problem(_: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(HMNError)
    async def on_mistake(_: Request, error: HMNError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 422)
        return Problem(status, str(error)).response()

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if isinstance(error.body, bytes) and error.body and kind != "application/json":
            return not_json(kind).response()
        faults = [{"at": _place(one), "fault": _fault(one)} for one in _own(error.errors())[:PLACES]]
        named = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults)
        detail = f"the request is not as expected: {named}: see /openapi.json"
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults=faults).response()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        detail = f"{request.method} {request.url.path}: {error.detail}: see /openapi.json for what there is"
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # each route names its own methods alone
            routes = [one for one in request.app.routes if one.matches(request.scope)[0] != Match.NONE]
            methods = {method for one in routes for method in getattr(one, "methods", None) or ()}
            headers["Allow"] = ", ".join(sorted(methods))
        return Problem(error.status_code, detail, headers).response()


def not_json(kind: str) -> Problem:
    """A body of another media type."""
    detail = f"content-type is {kind or 'missing'}, expected application/json: send it as that header"
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


def _own(errors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Faults without those of forms that were not meant: a bad text in a list is not said to be no text."""
    meant = {_field(one) for one in errors if not _of_another_form(one)}
    return [one for one in errors if not _of_another_form(one) or _field(one) not in meant]


def _of_another_form(error: Mapping[str, Any]) -> bool:
    return error["type"] in FORMS and UNION.fullmatch(str(error["loc"][-1])) is not None


def _field(error: Mapping[str, Any]) -> tuple[str, ...]:
    """The field that a fault is in, without its form and what is inside."""
    return tuple(takewhile(lambda part: not UNION.fullmatch(part), map(str, error["loc"])))


def _place(error: Mapping[str, Any]) -> str:
    return ".".join(part for part in map(str, error["loc"]) if not UNION.fullmatch(part))


def _fault(error: Mapping[str, Any]) -> str:
    """What is wrong, and what was there in its place."""
    missing = error["type"] in ("missing", "json_invalid")
    return str(error["msg"]) if missing else f"{error['msg']}, got {error.get('input')!r:.80}"
