"""Limits of requests: size, time, number in flight, and the name by which the server is called."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.serve.http.conftest import Start

from hmn.serve.http.limits import Limits
from hmn.serve.http.metrics import Metrics
from hmn.serve.http.settings import Settings


def scope(path: str = "/v1/ask", **headers: str) -> Scope:
    """A request as the server hands it to the application."""
    given = {"host": "localhost:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    named = [(name.encode(), value.encode()) for name, value in given.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": named, "query_string": b""}


async def call(limits: Limits, asked: Scope, parts: Iterable[bytes | float]) -> tuple[int, dict[str, object]]:
    """Send a request in parts, with pauses between them; returns status and problem."""
    coming, sent = iter([*parts]), []

    async def receive() -> Message:
        for part in coming:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                return {"type": "http.request", "body": part, "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await limits(asked, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(body)


def limited(**settings: object) -> tuple[Limits, list[bytes]]:
    """Limits around an application that keeps the bodies it gets."""
    bodies: list[bytes] = []

    async def application(_: Scope, receive: Receive, send: Send) -> None:
        bodies.append((await receive())["body"])
        await asyncio.sleep(float(bodies[-1] or 0))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    return Limits(application, Settings(**settings), Metrics()), bodies  # type: ignore[arg-type]


def test_a_body_comes_whole() -> None:
    limits, bodies = limited()
    assert asyncio.run(call(limits, scope(), [b"0.", 0.01, b"00", b"1"]))[0] == 200
    assert bodies == [b"0.001"]


def test_a_large_body_is_refused_before_it_is_read() -> None:
    limits, bodies = limited(most_body=10)
    status, problem = asyncio.run(call(limits, scope(content_length="11"), [60.0]))
    assert status == 413 and "10 bytes" in str(problem["detail"])
    assert asyncio.run(call(limits, scope(), [b"123456", b"123456", 60.0]))[0] == 413
    assert asyncio.run(call(limits, scope(content_length="10"), [b"0000000.00"]))[0] == 200
    assert bodies == [b"0000000.00"]


def test_a_slow_body_is_given_up_and_takes_no_place() -> None:
    limits, _ = limited(receive_seconds=0.2, most_in_flight=1)

    async def slow_and_fast() -> list[int]:
        slow = [asyncio.create_task(call(limits, scope(), [b"0", 5.0])) for _ in range(5)]
        await asyncio.sleep(0.05)
        fast = await call(limits, scope(), [b"0"])
        return [fast[0], *[(await one)[0] for one in slow]]

    assert asyncio.run(slow_and_fast()) == [200] + 5 * [408]


def test_more_than_fit_come_again_and_health_is_always_there() -> None:
    limits, _ = limited(most_in_flight=2)

    async def crowd() -> tuple[list[int], int]:
        asked = [asyncio.create_task(call(limits, scope(), [b"0.2"])) for _ in range(4)]
        await asyncio.sleep(0.05)
        health = await call(limits, scope("/healthz"), [b"0"])
        assert limits.metrics.registry.get_sample_value("hmn_in_flight") == 2
        return sorted([(await one)[0] for one in asked]), health[0]

    assert asyncio.run(crowd()) == ([200, 200, 503, 503], 200)
    assert asyncio.run(call(limits, scope(), [b"0"]))[0] == 200


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    limits, _ = limited(answer_seconds=0.1)
    status, problem = asyncio.run(call(limits, scope(), [b"5"]))
    assert status == 504 and "0.1 s" in str(problem["detail"])
    assert asyncio.run(call(limits, scope(), [b"0"]))[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("hmn.example", 200),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_other_names_are_refused(host: str, status: int) -> None:
    limits, _ = limited(hosts=("hmn.example",))
    assert asyncio.run(call(limits, scope(host=host), [b"0"]))[0] == status


def test_responses_have_safe_headers_and_logs_no_texts(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = start()
    with caplog.at_level(logging.INFO, logger="hmn.serve"):
        response = client.post("/v1/ask", json={"question": "where was the secret ada born?"})
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"
    line = json.loads(caplog.messages[-1])
    assert line["request"] == response.headers["x-request-id"]
    assert (line["route"], line["status"]) == ("/v1/ask", 200)
    assert "secret" not in caplog.text


def test_what_fails_unexpectedly_is_a_problem_without_its_insides() -> None:
    async def application(*_: object) -> None:
        raise RuntimeError("the insides")

    status, problem = asyncio.run(call(Limits(application, Settings(), Metrics()), scope(), []))
    assert status == 500 and "insides" not in str(problem)
