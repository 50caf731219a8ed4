"""How many questions a server answers, how soon, and what slow clients do to the others."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import shutil
import statistics
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.serve import models
from bench.serve.server import Request, Server, crowd, milliseconds
from hmn.qa.factoid_qa import FactoidQA

CONNECTIONS = 32
"""Connections of wrk."""
ROUNDS = 3
"""Rounds of wrk and of asking in process, one after the other."""
SINGLES = 500
"""Questions that are asked one at a time, over HTTP and in process by turns."""
HEALTHY = 4
"""Clients that ask while others are slow."""
SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local bodies, number = {}, 0
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
request = function()
  number = number + 1
  return wrk.format(nil, "/v1/ask", nil, bodies[number % #bodies + 1])
end
"""
"""Script of wrk: it sends questions in turn."""
HEAD = "POST /v1/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 60\r\n"
"""Head of a slow request, without the end."""


def measure(model: Path, work: Path, seconds: float) -> dict[str, Any]:
    """Start a server, ask it with wrk, and ask one question at a time."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk: no such program, expected it to make the load: apt-get install wrk")
    served = models.copied(model, work / "loaded")
    texts = models.questions(model)
    script = _script(work, texts)
    starts = []
    for _ in range(ROUNDS):
        with Server(served, work / "load.log") as server:
            starts.append(round(server.seconds, 2))
    qa = FactoidQA.from_pretrained(model)
    qa.ask_all(texts)
    rounds = []
    with Server(served, work / "load.log") as server:
        _wrk(script, server, 2.0)
        for _ in range(ROUNDS):
            rounds.append(
                _wrk(script, server, seconds / ROUNDS)
                | {
                    "ask_all": _in_process(qa, texts, seconds, len(texts)),
                    "ask_few": _in_process(qa, texts, seconds, CONNECTIONS),
                }
            )
        single = _singles(server, qa, texts)
    return {
        "start_seconds": starts,
        "connections": CONNECTIONS,
        "rounds": rounds,
        "per_second": statistics.median(row["per_second"] for row in rounds),
        "ask_all_per_second": statistics.median(row["ask_all"] for row in rounds),
        "ask_few_per_second": statistics.median(row["ask_few"] for row in rounds),
        **single,
    }


def slow(model: Path, work: Path, seconds: float, clients: int) -> dict[str, Any]:
    """Ask for some time alone, and for as long beside clients that send a byte per second."""
    served = models.copied(model, work / "slow")
    texts = models.questions(model)

    def request(client: int, number: int) -> Request:
        return "POST", "/v1/ask", {"question": texts[(client * 97 + number) % len(texts)]}

    results: dict[str, Any] = {"slow": clients, "healthy": HEALTHY, "seconds": seconds}
    context = multiprocessing.get_context("spawn")
    with Server(served, work / "slow.log") as server:
        crowd(server, HEALTHY, min(seconds, 5.0), request)
        results["alone"] = _healthy(server, seconds, request)
        opened, stop = context.Value("i", 0), context.Event()
        process = context.Process(target=trickle, args=(server.port, clients, opened, stop), daemon=True)
        process.start()
        while opened.value < clients:
            time.sleep(0.05)
        results["beside"] = _healthy(server, seconds, request)
        stop.set()
        process.join()
        results["opened"] = opened.value
    return results


def trickle(port: int, clients: int, opened: Any, stop: Any) -> None:
    """Keep connections open that send a byte per second; those that the server closes are opened again.

    Half of them never finish the head of a request, the others never its body.
    """

    async def client(number: int) -> None:
        text = HEAD + "\r\n" if number % 2 else ""
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with opened.get_lock():
                    opened.value += 1
                writer.write(text.encode())
                rest = " " * 60 if number % 2 else HEAD
                for byte in rest:
                    writer.write(byte.encode())
                    await writer.drain()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 1.0)
                        break  # an error, or the end: this connection is of no more use
                writer.close()

    async def run() -> None:
        tasks = [asyncio.create_task(client(number)) for number in range(clients)]
        await asyncio.to_thread(stop.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def _healthy(server: Server, seconds: float, request: Any) -> dict[str, float]:
    """Times of those that are not slow, and the largest memory of the server meanwhile."""
    memory, done = [server.resident_mb()], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            memory.append(server.resident_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    samples = crowd(server, HEALTHY, seconds, request)
    done.set()
    thread.join()
    bad = [sample for sample in samples if sample.status != 200]
    if bad:
        raise SystemExit(f"{len(bad)} questions failed, expected none: {bad[0]}")
    times = [sample.seconds for sample in samples]
    return {
        "questions": len(times),
        "p50": milliseconds(times, 50),
        "p99": milliseconds(times, 99),
        "mb": round(max(memory), 1),
    }


def _script(work: Path, texts: list[str]) -> Path:
    """The script of wrk, with the questions beside it."""
    bodies, script = work / "bodies.txt", work / "ask.lua"
    bodies.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    script.write_text(SCRIPT.replace("BODIES", str(bodies.resolve())))
    return script


def _wrk(script: Path, server: Server, seconds: float) -> dict[str, Any]:
    """What wrk measures."""
    done = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--latency"),
            *("--duration", f"{max(1, round(seconds))}s", "--script", str(script)),
            f"http://127.0.0.1:{server.port}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    text = done.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"wrk: {text}\nexpected answers to all questions")
    found = re.search(r"Requests/sec:\s*([\d.]+)", text)
    assert found is not None, text
    latency = {f"p{p}": _milliseconds(text, p) for p in (50, 99)}
    return {"per_second": float(found[1]), **latency}


def _milliseconds(text: str, percent: int) -> float:
    """A percentile that wrk prints, in ms."""
    found = re.search(rf"{percent}%\s*([\d.]+)(us|ms|s)", text)
    assert found is not None, text
    return round(float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]], 2)


def _in_process(qa: FactoidQA, texts: list[str], seconds: float, at_once: int) -> float:
    """Questions per second of ``ask_all`` in this process, with a number of them per call."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds / ROUNDS:
        first = count % len(texts)
        asked = texts[first : first + at_once]
        qa.ask_all(asked)
        count += len(asked)
    return round(count / (time.perf_counter() - began), 1)


def _singles(server: Server, qa: FactoidQA, texts: list[str]) -> dict[str, dict[str, float]]:
    """Times of one question at a time, over HTTP and in process."""
    connection = server.connect()
    over_http, in_process = [], []
    for number in range(SINGLES):
        text = texts[number % len(texts)]
        began = time.perf_counter()
        qa.ask(text)
        between = time.perf_counter()
        connection.json("POST", "/v1/ask", {"question": text})
        over_http.append(time.perf_counter() - between)
        in_process.append(between - began)
    connection.close()
    return {
        "single": {f"p{percent}": milliseconds(over_http, percent) for percent in (50, 99)},
        "ask": {f"p{percent}": milliseconds(in_process, percent) for percent in (50, 99)},
    }
