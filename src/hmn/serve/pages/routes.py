"""Serves the pages: questions and answers at ``/``, the description of the API at ``/docs``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

PAGES = Path(__file__).parent
"""Folder of the pages."""
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
"""Folder of Swagger UI, which shows the description of the API."""


def add_pages(app: FastAPI) -> None:
    """Add the pages to an application. They hold nothing of the table, so they need no token."""
    app.mount("/pages", StaticFiles(directory=PAGES / "assets"), name="pages")
    app.mount("/swagger", StaticFiles(directory=SWAGGER), name="swagger")
    for path, name in {"/": "index.html", "/docs": "docs.html"}.items():
        app.get(path, include_in_schema=False)(_page(PAGES / name))


def _page(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def show() -> FileResponse:
        return FileResponse(file)

    return show
