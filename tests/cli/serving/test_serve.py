"""``hmn serve`` as a process: it answers, refuses bad settings, and ends well at SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.fuzz.bundles import make_bundle
from typer.testing import CliRunner

from hmn.cli.app import app

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from hmn.serve.client import Client, ServerError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("serve") / "model {0}")


def test_it_answers_and_ends_at_sigterm_with_its_writes_kept(model: Path) -> None:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hmn.cli", "serve", str(model), "--port", str(port), "--allow-writes"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            _wait_for(client)
            assert client.add([("zoe", "born_in", "mu")])["version"] == 1
            assert client.ask("where was ada born?")["answers"]
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=30)
    finally:
        server.kill()
    assert server.returncode == 0, log
    assert f"serving {model} at http://127.0.0.1:{port}" in log and '"route": "/v1/ask"' in log
    compacted = CliRunner().invoke(app, ["compact", str(model)])
    assert compacted.exit_code == 0 and "1 writes folded" in compacted.stderr


def _wait_for(client: Client) -> None:
    """Wait until a server answers."""
    for _ in range(300):
        try:
            client.model()
        except ServerError as error:
            assert not error.status, error
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server does not answer after 30 s")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--token-file", "nowhere.txt"], "nowhere.txt"),
        (["--token-file", "two-words.txt"], "one word"),
        (["--token-file", "empty.txt"], "one word"),
        (["--token-file", "token.txt", "--allow-writes"], "allow_writes"),
    ],
)
def test_bad_settings_are_errors(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"two-words.txt": "two words", "empty.txt": "", "token.txt": "secret\n"}.items():
        Path(name).write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["serve", str(model), *flags])
    assert done.exit_code == 2 and named in done.stderr and "secret" not in done.stderr


@pytest.mark.parametrize("token", ["  ", "two words"])
def test_a_token_in_the_environment_is_one_word(
    model: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HMN_TOKEN", token)
    done = CliRunner().invoke(app, ["serve", str(model)])
    assert done.exit_code == 2 and "HMN_TOKEN: expected a token in it, one word" in done.stderr


def test_errors_name_flags_that_there_are(tmp_path: Path) -> None:
    table = tmp_path / "lands.csv"
    table.write_bytes("Land;Währung\nÖsterreich;Euro\n".encode("cp1252"))
    done = CliRunner().invoke(app, ["serve", str(table), "--port", "0", "--wide"])
    assert done.exit_code == 2 and "--encoding windows-1252" in done.stderr
    shown = CliRunner().invoke(app, ["serve", "--help"]).stdout
    assert all(flag in shown for flag in ("--encoding", "--skip-bad", "--wide", "--question-language"))
