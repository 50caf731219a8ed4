"""Errors as problem details (RFC 9457): what, what was expected, and what to do next."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from hmn.errors import HMNError, JournalError, KeyReuseError

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
STATUS = {KeyReuseError: HTTPStatus.CONFLICT, JournalError: HTTPStatus.SERVICE_UNAVAILABLE}
"""Status codes of mistakes that are not the request's alone."""
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
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            {"at": ".".join(map(str, one["loc"])), "fault": one["msg"]} for one in error.errors()[:PLACES]
        ]
        named = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults)
        detail = f"the request is not as expected: {named}: see /openapi.json"
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults=faults).response()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        detail = f"{request.method} {request.url.path}: {error.detail}: see /openapi.json for what there is"
        return Problem(error.status_code, detail, dict(error.headers or {})).response()
