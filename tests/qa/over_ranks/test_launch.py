"""The commands as ``torchrun`` starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.distributed.processes import gloo

from hmn.distributed import Ranks
from hmn.errors import ConfigError
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.over_ranks.launch import check_files, joined, same_texts

TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "hmn",
]
SMALL = [
    *("--epochs", "1", "--table-bits", "11", "--name-features", "32", "--relation-features", "16"),
    *("--word-bits", "10", "--hidden", "8", "--made-questions", "0", "--learning-rate", "0.02"),
]
QUESTIONS = "where was {} born\n?!\nwhat is the profession of {}\n"
JSON = {"Content-Type": "application/json"}


def test_without_torchrun_there_are_no_ranks() -> None:
    with joined() as ranks:
        assert ranks is None
    assert list(same_texts(iter(["one", "two"]), None)) == ["one", "two"]


def test_standard_input_is_not_read_by_several_processes() -> None:
    with pytest.raises(ConfigError, match=r"--facts is -, standard input, expected a file over"):
        check_files(Ranks(), {"questions": "a.tsv,b.tsv", "valid": None, "facts": "-"})
    with pytest.raises(ConfigError, match="--questions is -"):
        check_files(Ranks(), {"questions": "a.tsv,-"})
    check_files(Ranks(), {"questions": "a-b.tsv", "valid": None})
    check_files(None, {"facts": "-"})


def test_a_thread_that_waits_for_a_line_lets_the_process_end() -> None:
    code = """
import threading, time
from hmn.qa.over_ranks.launch import unbuffered_lines
def work():
    for line in unbuffered_lines():
        print(ascii(line), flush=True)
threading.Thread(target=work, daemon=True).start()
time.sleep(1)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for piece in (b"one\ntw", b"o\n\nthr"):
            process.stdin.write(piece)
            process.stdin.flush()
        assert process.stdout.read().split() == [b"'one'", b"'two'", b"''"]
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, small_rows: list[tuple[str, ...]]) -> Path:
    """A model that two processes have trained."""
    folder = tmp_path_factory.mktemp("torchrun")
    facts = sorted({row[:3] for row in small_rows})
    for name, rows in {"facts": facts, "train": small_rows[:200]}.items():
        text = "".join("\t".join(row) + "\n" for row in rows)
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    files = ["--facts", "facts.tsv", "--questions", "train.tsv", "--out", "model"]
    done = run("train", *files, *SMALL, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote model") == 1  # rank 0 alone speaks
    return folder / "model"


def run(*arguments: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*TORCHRUN, *arguments],
        cwd=folder,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@gloo
def test_two_processes_answer_as_one_does(model: Path, small_rows: list[tuple[str, ...]]) -> None:
    name = small_rows[0][0].replace("_", " ")
    given = QUESTIONS.format(name, name)
    done = run("ask", "model", "-", "--json", folder=model.parent, given=given)
    assert done.returncode == 0, done.stderr
    first, bad, last = map(json.loads, done.stdout.splitlines())
    assert "no word" in bad["error"]
    alone = FactoidQA.from_pretrained(model)
    for got in (first, last):
        wanted = alone.ask(got["question"]).as_dict()
        assert got["answers"][0]["answers"] == wanted["answers"][0]["answers"]
        assert got["answers"][0]["probability"] == pytest.approx(
            wanted["answers"][0]["probability"], rel=1e-3
        )


@gloo
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
def test_two_processes_serve_until_one_ends(model: Path, small_rows: list[tuple[str, ...]]) -> None:
    log = model.parent / "serve.log"
    with log.open("w", encoding="utf-8") as stream:
        server = subprocess.Popen(
            [*TORCHRUN, "serve", "model", "--port", "0", "--allow-writes"],
            cwd=model.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=stream,
            stderr=stream,
        )
    try:
        url = waited_for(log, r"serving model at (\S+):", server)[1]
        question = f"where was {small_rows[0][0].replace('_', ' ')} born"
        (got,) = post(f"{url}/v1/ask", {"question": question, "k": 1})["results"]
        wanted = FactoidQA.from_pretrained(model).ask(question, 1)
        assert got["answers"][0]["answers"] == wanted[0].answers
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(f"{url}/v1/facts", {"facts": [{"subject": "a", "relation": "b", "object": "c"}]})
        assert refused.value.code == 403 and "several ranks" in refused.value.read().decode()
        os.kill(follower(server.pid), signal.SIGKILL)
        assert server.wait(60) != 0
    finally:
        server.kill()


def post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), JSON)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def waited_for(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> re.Match[str]:
    """The first match in a log, once it is there."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text(encoding="utf-8"))
        if found:
            return found
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.1)
    raise AssertionError(log.read_text(encoding="utf-8"))


def follower(launcher: int) -> int:
    """The process of rank 1 among the children of ``torchrun``."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="utf-8").split()
    for child in map(int, children):
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if b"RANK=1" in variables:
            return child
    raise AssertionError(f"no rank 1 among {children}")
