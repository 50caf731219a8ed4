"""The application: the routes of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from starlette.responses import PlainTextResponse, Response

from hmn.qa.answer import Answers
from hmn.serve.http.auth import bearer, guards, writes_for
from hmn.serve.http.batching import Answered, Batcher
from hmn.serve.http.limits import Limits
from hmn.serve.http.metrics import Metrics
from hmn.serve.http.problems import PROBLEMS, Problem, handle_errors
from hmn.serve.http.schemas import About, Ask, Asked, Find, NewFact, Page, Remove, TraceShown, Write, Written
from hmn.serve.http.settings import Settings
from hmn.serve.http.shown import about, shown
from hmn.serve.pages.routes import add_pages
from hmn.serve.served import ServedModel

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A write with a key is done once, however often it is sent.",
    ),
]


def make_app(served: ServedModel, settings: Settings) -> FastAPI:
    """The application that serves a model.

    Args:
        served: the model with its journal.
        settings: limits and tokens.
    """
    metrics = Metrics()

    def ask(texts: list[str], k: int) -> Answered:
        metrics.batch.observe(len(texts))
        return served.ask(texts, k)

    with served.reading() as (_, model):
        batcher, index = Batcher(ask, model.config.k), model.config.index

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(
        title="hmn",
        version=version("hmn"),
        summary="Answers from a table of facts, with the facts that support them.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=PROBLEMS,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    handle_errors(app)
    app.add_middleware(Limits, settings=settings, metrics=metrics)
    reads, writes = ([Depends(guard), *bearer(settings)] for guard in guards(settings))

    @app.post("/v1/ask", tags=["Questions"], dependencies=reads, response_model=Asked)
    async def ask_questions(body: Ask) -> Response:
        """Answer questions, with the facts that support the answers."""
        texts = [body.question] if isinstance(body.question, str) else body.question
        if len(texts) > settings.most_questions:
            raise _too_many("questions", len(texts), settings.most_questions)
        traces: list[TraceShown | None] = [None] * len(texts)
        if body.trace:
            if len(texts) > 1:
                raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"trace is for one question, got {len(texts)}")
            number, seen = await asyncio.to_thread(served.trace, texts[0], body.k)
            answers, traces = [seen.answers], [shown(seen, index)]
        else:
            number, answers = await batcher.ask(texts, body.k)
        for found in answers:
            metrics.questions.labels(str(found.known).lower()).inc()
            metrics.reads.inc(found.reads or 0)
        results = [
            {"question": text, **_shown(found), "trace": trace and trace.model_dump()}
            for text, found, trace in zip(texts, answers, traces, strict=True)
        ]
        # as in Asked, but checking hundreds of facts once more would take longer than finding them
        return Response(to_json({"version": number, "results": results}), media_type="application/json")

    @app.get("/v1/facts", tags=["Facts"], dependencies=reads)
    async def list_facts(wanted: Annotated[Find, Query()]) -> Page:
        """Facts of the table, a page at a time: those that have all that is asked for."""
        found = await asyncio.to_thread(served.facts, **wanted.model_dump())
        return Page(**found.as_dict())

    @app.post("/v1/facts", tags=["Facts"], dependencies=writes)
    async def write_facts(body: Write, key: Key = None) -> Written:
        """Add facts, or let them take the place of others. The response comes once they are durable."""
        kind = "replace" if body.replace else "add"
        operations: list[dict[str, Any]] = [{kind: _rows(body.facts), "names": body.names}]
        if body.remove:
            operations.append({"remove": _rows(body.remove)})
        return await _write(operations, len(body.facts) + len(body.remove), key)

    @app.delete("/v1/facts", tags=["Facts"], dependencies=writes)
    async def remove_facts(body: Remove, key: Key = None) -> Written:
        """Remove facts. They are never answered again."""
        operation = {"remove": _rows(body.facts), "ignore_missing": body.ignore_missing}
        return await _write([operation], len(body.facts), key)

    async def _write(operations: list[dict[str, Any]], count: int, key: str | None) -> Written:
        if count > settings.most_facts:
            raise _too_many("facts", count, settings.most_facts)
        done = await asyncio.wrap_future(served.submit(operations, key))
        if not done.repeated:
            metrics.written.labels("added").inc(done.added)
            metrics.written.labels("removed").inc(done.removed)
        return Written(**done._asdict())

    @app.get("/v1/model", tags=["Questions"], dependencies=reads)
    async def describe_model(request: Request) -> About:
        """What is served."""
        return await asyncio.to_thread(
            about, served, "off" if served.read_only else writes_for(request, settings)
        )

    add_pages(app)
    for path in ("/healthz", "/livez", "/readyz"):
        app.get(
            path, tags=["Server"], response_class=PlainTextResponse, description="Whether the server works."
        )(_fine)

    @app.get("/metrics", tags=["Server"], response_class=PlainTextResponse, dependencies=reads)
    async def show_metrics() -> Response:
        """Figures on the server, for Prometheus."""
        with served.reading() as (number, model):
            metrics.facts.set(len(model.facts))
            metrics.version.set(number)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _rows(facts: list[NewFact]) -> list[tuple[str, str, str]]:
    """Facts of a request as ``ServedModel`` takes them."""
    return [(one.subject, one.relation, one.object) for one in facts]


def _shown(found: Answers) -> dict[str, Any]:
    """Answers to a question, each with all fields."""
    own = found.as_dict()
    return own | {"answers": [{"chains": [], "probabilities": [], **answer} for answer in own["answers"]]}


async def _fine() -> str:
    return "ok\n"


def _too_many(what: str, count: int, most: int) -> Problem:
    detail = f"{count:,} {what}, expected at most {most:,}: send several requests"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
