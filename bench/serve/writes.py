"""How fast writes are acknowledged, and how soon a server with many of them in its journal is there again."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from bench.serve import models
from bench.serve.server import Request, Server, crowd, milliseconds

SINGLES = 1_000
"""Writes of one fact."""
BATCH = 100
"""Facts per batch."""
CLIENTS = (1, 4)
"""Clients that write batches at the same time; each number writes an equal part of the facts."""
RESTARTS = 3
"""Number of restarts that are timed."""


def measure(model: Path, work: Path, facts: int) -> dict[str, Any]:
    """Write single facts and batches, ``facts`` in all, and start again with all of them in the journal."""
    served = models.copied(model, work / "written")
    log = work / "writes.log"
    bare = bare_commits(work / "bare.sqlite", SINGLES)
    results: dict[str, Any] = {"facts": facts, "batch": BATCH, "singles": SINGLES}
    with Server(served, log) as server:
        crowd(server, 1, 0.5, lambda _, number: single(-1 - number))  # the first writes prepare much
        connection = server.connect()
        seconds = []
        for number in range(SINGLES):
            began = time.perf_counter()
            connection.json(*single(number))
            seconds.append(time.perf_counter() - began)
        results["single"] = {f"p{percent}": milliseconds(seconds, percent) for percent in (50, 99)}
        results["bare"] = {f"p{percent}": milliseconds(bare, percent) for percent in (50, 99)}
        results["batches"] = []
        first = 0
        for clients in CLIENTS:
            row = _batches(server, clients, first, facts // BATCH // len(CLIENTS))
            results["batches"].append(row)
            first += row["batches"]
        about = connection.json("GET", "/v1/model")
        server.kill()
    starts = []
    for _ in range(RESTARTS):
        with Server(served, log) as server:
            starts.append(round(server.seconds, 2))
            after = server.connect().json("GET", "/v1/model")
            if (after["version"], after["facts"]) != (about["version"], about["facts"]):
                raise SystemExit(f"{served}: {after} after the restart, expected {about}")
            server.kill()
    return {**results, "writes": about["version"], "table": about["facts"], "restart_seconds": starts}


def single(number: int) -> Request:
    """A write of one fact about a new subject."""
    return "POST", "/v1/facts", {"facts": [fact(f"bench/single{number}", 0)]}


def batch(number: int) -> Request:
    """A write of a hundred facts about ten new subjects, with names."""
    subjects = [f"bench/batch{number}s{place}" for place in range(BATCH // 10)]
    names = {subject: [f"batch {number} subject {place}"] for place, subject in enumerate(subjects)}
    facts = [fact(subject, place) for subject in subjects for place in range(10)]
    return "POST", "/v1/facts", {"facts": facts, "names": names}


def fact(subject: str, place: int) -> dict[str, str]:
    """A fact in JSON."""
    return {"subject": subject, "relation": f"bench/has_part_{place}", "object": f"bench/part{place}"}


def _batches(server: Server, clients: int, first: int, count: int) -> dict[str, Any]:
    """Write batches; every one must be acknowledged with all of its facts."""
    began = time.perf_counter()
    done: list[float] = []
    left = iter(range(first, first + count))

    def request(client: int, number: int) -> Request | None:  # noqa: ARG001
        number = next(left, -1)
        return None if number < 0 else batch(number)

    samples = crowd(server, clients, count * 60.0, request)
    took = time.perf_counter() - began
    for sample in samples:
        if sample.status != 200 or json.loads(sample.body)["added"] != BATCH:
            raise SystemExit(f"a batch: status {sample.status}: {sample.body.decode()[:500]}")
        done.append(sample.seconds)
    return {
        "clients": clients,
        "batches": len(done),
        "facts_per_second": round(BATCH * len(done) / took),
        "p50": milliseconds(done, 50),
        "p99": milliseconds(done, 99),
    }


def bare_commits(path: Path, count: int) -> list[float]:
    """Seconds of each of some commits to a database of its own, with the settings of the journal."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE writes (version INTEGER PRIMARY KEY, operations TEXT NOT NULL)")
    seconds = []
    for number in range(count):
        text = json.dumps(single(number)[2])
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO writes VALUES (?, ?)", (number, text))
        connection.execute("COMMIT")
        seconds.append(time.perf_counter() - began)
    connection.close()
    return seconds
