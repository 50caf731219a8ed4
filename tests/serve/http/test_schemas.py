"""Requests that are drawn from the description of the API: it says what all of them get."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings

from hmn.serve.http.app import make_app
from hmn.serve.http.settings import Settings
from hmn.serve.served import ServedModel

schemathesis = pytest.importorskip("schemathesis", reason="the extra 'dev' is not installed")

EXAMPLES = 40
"""Requests per route, token, and kind."""
HOST = {"Host": "localhost"}
"""Header without which nothing is answered."""
WRITES = {"POST /v1/facts", "DELETE /v1/facts"}
"""Routes that need the token for writing."""
OPEN = {"/healthz", "/livez", "/readyz"}
"""Paths that need no token."""
PROBLEM = {"type", "title", "status", "detail"}
"""Members of every problem."""


def operations(served: ServedModel) -> list[Any]:
    """The routes of an application with two tokens."""
    app = make_app(served, Settings(token="all-of-it", read_token="only-reading"))
    for routes in app.openapi()["paths"].values():
        for described in routes.values():
            described.pop("security", None)  # or Schemathesis would send tokens of its own
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=HOST)
    return [found.ok() for found in schema.get_all_operations()]


def exercised(operation: Any, mode: Any, token: str | None) -> Counter[int]:
    """Statuses of what requests of a route get, each of which must be as the schema says."""
    statuses: Counter[int] = Counter()
    headers = HOST | ({"Authorization": f"Bearer {token}"} if token else {})
    # what the schema allows may still not fit the table, such as a question without a word in it
    may_be_refused = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")

    @seed(0)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def answers(case: Any) -> None:
        response = case.call(headers=headers)
        statuses[response.status_code] += 1
        assert response.status_code < 500, response.text
        case.validate_response(response, excluded_checks=[may_be_refused])
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]
            assert response.json().keys() >= PROBLEM
            assert response.json()["status"] == response.status_code

    answers()
    return statuses


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "only-reading", "all-of-it"])
def test_what_the_schema_allows_gets_what_it_says(served: ServedModel, token: str | None) -> None:
    for operation in operations(served):
        statuses = exercised(operation, schemathesis.GenerationMode.POSITIVE, token)
        if operation.path in OPEN:
            assert set(statuses) == {200}
        elif token is None:
            assert set(statuses) == {401}
        elif token == "only-reading" and operation.label in WRITES:
            assert set(statuses) == {403}
        else:
            assert statuses[200] and set(statuses) <= {200, 409, 422}


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "only-reading", "all-of-it"])
def test_what_the_schema_forbids_gets_what_it_says(served: ServedModel, token: str | None) -> None:
    tried = [operation for operation in operations(served) if operation.body or operation.query]
    assert {operation.label for operation in tried} == WRITES | {"POST /v1/ask", "GET /v1/facts"}
    for operation in tried:
        statuses = exercised(operation, schemathesis.GenerationMode.NEGATIVE, token)
        refusals = {400, 415, 422, 401 if token is None else 403}
        # a query of the schema's may be left over once what is wrong in it was dropped
        assert set(statuses) <= refusals | ({200} if operation.label == "GET /v1/facts" and token else set())
