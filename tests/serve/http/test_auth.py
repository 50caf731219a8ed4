"""Who may read and who may write, and that pages from elsewhere may not."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from tests.serve.http.conftest import Start

from hmn.errors import ConfigError
from hmn.serve.http.settings import Settings

BODY = {"facts": [{"subject": "zoe", "relation": "born_in", "object": "mu"}]}
ALL, READ = "Bearer all-of-it", "Bearer only-reading"


def statuses(client: TestClient, **headers: str) -> tuple[int, int]:
    """Status of a question and of a write."""
    asked = client.post("/v1/ask", json={"question": "where was ada born"}, headers=headers)
    written = client.post("/v1/facts", json=BODY, headers=headers)
    return asked.status_code, written.status_code


def test_without_tokens_reading_is_free_and_writing_is_off(start: Start) -> None:
    assert statuses(start()) == (200, 403)
    assert statuses(start(allow_writes=True)) == (200, 200)


def test_tokens_allow_what_they_are_for(start: Start) -> None:
    client = start(token="all-of-it", read_token="only-reading")
    assert statuses(client) == (401, 401)
    assert statuses(client, authorization="Bearer wrong") == (401, 401)
    assert statuses(client, authorization="Basic all-of-it") == (401, 401)
    assert statuses(client, authorization=READ) == (200, 403)
    assert statuses(client, authorization=ALL) == (200, 200)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"authorization": READ}).status_code == 200
    assert client.get("/healthz").status_code == 200
    refused = client.post("/v1/ask", json={"question": "who"})
    assert refused.headers["www-authenticate"] == "Bearer" and "all-of-it" not in refused.text


def test_a_token_may_have_any_letters(start: Start) -> None:
    client = start(token="clé", read_token="ключ")
    for token, expected in (("clé", (200, 200)), ("ключ", (200, 403)), ("cle", (401, 401))):
        given = {"authorization": f"Bearer {token}".encode()}
        assert statuses(client, **given) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:9"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "localhost"}, 403),
        ({"origin": "https://LOCALHOST"}, 200),
        ({"origin": "http://localhost"}, 200),
    ],
)
def test_pages_from_elsewhere_cannot_write(start: Start, headers: dict[str, str], status: int) -> None:
    client = start(allow_writes=True)
    assert client.post("/v1/facts", json=BODY, headers=headers).status_code == status


def test_a_form_cannot_write(start: Start) -> None:
    client = start(allow_writes=True)
    text = '{"facts": [{"subject": "zoe", "relation": "born_in", "object": "mu"}]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        sent = client.post("/v1/facts", content=text, headers={"content-type": kind})
        assert sent.status_code in {415, 422}
    assert client.get("/v1/facts", params={"subject": "zoe"}).json()["facts"] == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"host": "0.0.0.0"}, "0.0.0.0"),
        ({"host": "example.org"}, "example.org"),
        ({"allow_writes": True, "token": "x"}, "allow_writes"),
        ({"read_token": "x"}, "without token"),
        ({"token": "x", "read_token": "x"}, "same secret"),
    ],
)
def test_settings_that_would_be_open_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Settings(**settings)  # type: ignore[arg-type]


def test_local_addresses() -> None:
    assert all(Settings(host=host).is_local for host in ("localhost", "127.0.0.1", "127.8.0.1", "::1"))
    assert "secret" not in repr(Settings(token="secret"))
