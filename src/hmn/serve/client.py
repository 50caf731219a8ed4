"""A client of ``hmn serve``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from hmn.errors import HMNError

Fact = Sequence[str]
"""Ids of subject, relation and object."""
SECONDS = 40.0
"""Time within which an answer must be there: the server takes 30 seconds at most."""


class ServerError(HMNError):
    """The server refused a request, or cannot be reached.

    Attributes:
        status: status code; 0 if there was no response.
        problem: the problem details (RFC 9457).
    """

    def __init__(self, message: str, status: int = 0, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.problem = status, dict(problem or {})


class Client:
    """Asks a server, and changes its facts.

    Args:
        url: where it is, such as ``http://127.0.0.1:8000``.
        token: the token, if the server wants one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=SECONDS)

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, question: str, k: int = 5) -> dict[str, Any]:
        """Answers to a question; see ``POST /v1/ask``."""
        result: dict[str, Any] = self._json("POST", "/v1/ask", {"question": question, "k": k})["results"][0]
        return result

    def ask_all(self, questions: Sequence[str], k: int = 5) -> list[dict[str, Any]]:
        """Answers to several questions, all from one version of the table."""
        results: list[dict[str, Any]] = []
        if questions:
            results = self._json("POST", "/v1/ask", {"question": list(questions), "k": k})["results"]
        return results

    def facts(self, limit: int | None = None, **wanted: Any) -> Iterator[dict[str, str]]:
        """Facts, page by page.

        Args:
            limit: upper limit of their number; all if not given.
            wanted: what they must have: ``subject``, ``relation``, ``object`` or ``text``.
        """
        after: dict[str, int] = {}
        more = True
        while more and limit != 0:
            size = 1000 if limit is None else min(limit, 1000)
            page = self._json("GET", "/v1/facts", params=wanted | {"limit": size} | after)
            yield from page["facts"]
            more, after = page["next"] is not None, {"after": page["next"]}
            limit = None if limit is None else limit - len(page["facts"])

    def add(
        self, facts: Sequence[Fact], names: Mapping[str, Sequence[str]] | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """Add facts; returns once they are durable.

        Args:
            facts: the facts.
            names: names of entities, by their ids.
            key: idempotency key: a write that is sent again with it is not done again.
        """
        return self._write("POST", {"facts": _rows(facts), "names": dict(names or {})}, key)

    def replace(
        self, facts: Sequence[Fact], names: Mapping[str, Sequence[str]] | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """Give subjects and relations new objects; see ``add`` for the arguments."""
        return self._write("POST", {"facts": _rows(facts), "names": dict(names or {}), "replace": True}, key)

    def remove(
        self, facts: Sequence[Fact], *, ignore_missing: bool = False, key: str | None = None
    ) -> dict[str, Any]:
        """Remove facts; returns once they are gone for good.

        Args:
            facts: the facts.
            ignore_missing: pass over facts that are not there.
            key: idempotency key: a write that is sent again with it is not done again.
        """
        return self._write("DELETE", {"facts": _rows(facts), "ignore_missing": ignore_missing}, key)

    def model(self) -> dict[str, Any]:
        """What is served."""
        return self._json("GET", "/v1/model")

    def _write(self, method: str, body: Mapping[str, Any], key: str | None) -> dict[str, Any]:
        return self._json(method, "/v1/facts", body, headers={} if key is None else {"Idempotency-Key": key})

    def _json(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body, **more)
        except httpx.HTTPError as error:
            raise ServerError(
                f"{self._http.base_url}: {error}: see whether 'hmn serve' runs there"
            ) from error
        found: dict[str, Any] = {}
        if response.headers.get("content-type", "").partition(";")[0].endswith("json"):
            found = response.json()
        if response.is_error or not found:
            detail = found.get("detail", f"status {response.status_code}, expected JSON")
            raise ServerError(f"{self._http.base_url}: {detail}", response.status_code, found)
        return found


def _rows(facts: Sequence[Fact]) -> list[dict[str, str]]:
    return [dict(zip(("subject", "relation", "object"), fact, strict=True)) for fact in facts]
