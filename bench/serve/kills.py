"""``kill -9`` while several clients write: nothing that was acknowledged is lost, nothing is half applied."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.serve import models
from bench.serve.agreement import Table, Triple, asked, built, difference, facts_of, listed
from bench.serve.server import Connection, GoneError, Server
from hmn.facts.ids import relation_text
from hmn.qa.factoid_qa import FactoidQA

WRITERS = 8
"""Clients that write at the same time."""
SUBJECTS = 30
"""New subjects of each writer; it changes as many of the model's own."""
RELATIONS = 5
"""Relations of the facts that are written."""
OBJECTS = 12
"""Different objects of the new facts."""
NEW = "bench/"
"""How the ids of new entities begin."""
MOST_SECONDS = 1.2
"""Upper limit of the time from the first write to the kill."""
BATCH = (10, 60)
"""Least and most facts of a write that is no single one."""
SINGLE = 0.5
"""Share of writes of one fact."""
KINDS = {"add": 0.6, "replace": 0.2, "remove": 0.2}
"""Shares of the kinds of writes."""
QUESTIONS = 300
"""Questions after each restart: half about what was there, half about new subjects."""


class Write(NamedTuple):
    """A write that was sent.

    Attributes:
        kind: ``add``, ``replace`` or ``remove``.
        facts: its facts.
        key: its idempotency key.
    """

    kind: str
    facts: list[Triple]
    key: str


class Writer:
    """A client that changes facts of subjects that no other client changes.

    Attributes:
        table: what its subjects have, by all writes that were acknowledged.
        open: the write that was sent and not acknowledged.
        requests, facts: what was acknowledged.
        failure: what was not as expected.
    """

    def __init__(self, number: int, own: set[Triple], relations: list[str]) -> None:
        self.number, self._rng, self._relations = number, random.Random(number), relations
        self._subjects = [f"{NEW}worker-{number}/subject-{place}" for place in range(SUBJECTS)]
        self._subjects += sorted({fact[0] for fact in own})
        self.table = Table(own)
        self.open: Write | None = None
        self.requests = self.facts = self._sent = 0
        self.failure = ""

    def run(self, server: Server, first: threading.Event) -> None:
        """Write until the server is gone."""
        connection = server.connect()
        try:
            while True:
                self.open = self._next()
                first.set()
                status, text = connection.raw(*_request(self.open), self.open.key)
                if status != 200:
                    self.failure = f"{self.open}: status {status}, expected 200: {text.decode()[:500]}"
                    return
                self.acknowledged()
        except GoneError:
            return
        finally:
            connection.close()

    def acknowledged(self) -> None:
        """Note that the open write is done."""
        assert self.open is not None
        self.table.take(self.open.kind, self.open.facts)
        self.requests += 1
        self.facts += len(self.open.facts)
        self.open = None

    def with_open(self) -> Table:
        """What its subjects have if the open write was done."""
        table = self.table.copy()
        if self.open is not None:
            table.take(self.open.kind, self.open.facts)
        return table

    def owns(self, fact: Triple) -> bool:
        """Whether a fact is about one of its subjects."""
        return fact[0] in self._subjects

    def _next(self) -> Write:
        rng = self._rng
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        count = 1 if rng.random() < SINGLE else rng.randint(*BATCH)
        if kind == "remove":
            facts = sorted(self.table.facts())
            chosen = rng.sample(facts, min(count, len(facts)))
        else:
            chosen = [self._fact() for _ in range(count)]
        self._sent += 1
        if not chosen:
            kind, chosen = "add", [self._fact()]
        return Write(kind, list(dict.fromkeys(chosen)), f"{self.number}-{self._sent}")

    def _fact(self) -> Triple:
        rng = self._rng
        thing = f"{NEW}thing-{rng.randrange(OBJECTS)}"
        return rng.choice(self._subjects), rng.choice(self._relations), thing


def measure(work: Path, kills: int, facts: int) -> dict[str, Any]:
    """Kill a server again and again; each kill is a line of ``kills.jsonl``, and none is done twice."""
    bundle = models.small(work, facts)
    lines = work / "kills.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    served = models.copied(bundle, work / "killed")
    for row in _rows(bundle, served, work / "kills.log", len(rows), kills):
        rows.append(row)
        with lines.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"kill {len(rows)} of {kills}: {row}", flush=True)
    names = ("requests", "facts", "in_flight", "applied", "lost", "half", "wrong", "questions")
    return {
        "kills": len(rows),
        "writers": WRITERS,
        **{name: sum(row[name] for row in rows) for name in names},
        "least_milliseconds": min(row["milliseconds"] for row in rows),
        "most_milliseconds": max(row["milliseconds"] for row in rows),
        "most_start_seconds": max(row["start_seconds"] for row in rows),
        "table": rows[-1]["table"],
        "model": models.described(bundle),
    }


def _rows(bundle: Path, served: Path, log: Path, done: int, kills: int) -> Iterator[dict[str, Any]]:
    """What each further kill shows. The same folder goes on from one to the next."""
    rng = random.Random(done)
    at_first = facts_of(FactoidQA.from_pretrained(bundle))
    relations = sorted({fact[1] for fact in at_first})[:RELATIONS]
    subjects = sorted({fact[0] for fact in at_first})
    writers = []
    for number in range(WRITERS):
        own = set(subjects[number::WRITERS][:SUBJECTS])
        writers.append(Writer(number, {fact for fact in at_first if fact[0] in own}, relations))
    others = {fact for fact in at_first if not any(writer.owns(fact) for writer in writers)}
    version = 0
    server = Server(served, log)
    try:
        for _ in range(done, kills):
            before = _acknowledged(writers)
            milliseconds = _write_and_kill(server, writers, MOST_SECONDS * rng.random())
            requests, facts = (now - then for now, then in zip(_acknowledged(writers), before, strict=True))
            server = Server(served, log)
            row = _look(server, bundle, writers, others, version + requests, rng)
            version = row.pop("version")
            yield {
                "milliseconds": milliseconds,
                "requests": requests,
                "facts": facts,
                "start_seconds": round(server.seconds, 2),
                **row,
            }
    finally:
        server.kill()


def _acknowledged(writers: list[Writer]) -> tuple[int, int]:
    """Requests and facts of all writers."""
    return sum(writer.requests for writer in writers), sum(writer.facts for writer in writers)


def _write_and_kill(server: Server, writers: list[Writer], seconds: float) -> float:
    """Let all write and end the server some time after the first write; returns the time in ms."""
    first = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(server, first)) for writer in writers]
    for thread in threads:
        thread.start()
    first.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    server.kill()
    took = time.perf_counter() - began
    for thread in threads:
        thread.join()
    for writer in writers:
        if writer.failure:
            raise SystemExit(f"writer {writer.number}: {writer.failure}")
    return round(1e3 * took, 1)


def _look(
    server: Server, bundle: Path, writers: list[Writer], others: set[Triple], least: int, rng: random.Random
) -> dict[str, Any]:
    """Compare a server that was started again with all that was acknowledged, and finish what was open."""
    connection = server.connect()
    version = connection.json("GET", "/v1/model")["version"]
    there = listed(connection)
    own = [{fact for fact in there if writer.owns(fact)} for writer in writers]
    rest = there.difference(*own)
    lost, half = len(others - rest), int(rest > others)
    expected, by_look = set(others), {}
    for writer, found in zip(writers, own, strict=True):
        before, after = writer.table.facts(), writer.with_open().facts()
        if found not in (before, after):
            lost += len((before & after) - found)
            half += 1
        elif before != after:
            by_look[writer.number] = found == after
        expected |= after if found == after else before
    questions, wrong = _ask(connection, bundle, expected, rng)
    applied, open_writes = 0, [writer for writer in writers if writer.open is not None]
    for writer in open_writes:  # the same write with the same key: it was done before, or it is done now
        assert writer.open is not None
        done = connection.json(*_request(writer.open), writer.open.key)["repeated"]
        applied += done
        half += by_look.get(writer.number, done) != done
        writer.acknowledged()
    half += version != least + applied  # a write more or less than there should be
    last = connection.json("GET", "/v1/model")["version"]
    connection.close()
    return {
        "in_flight": len(open_writes),
        "applied": applied,
        "lost": lost,
        "half": half,
        "wrong": wrong,
        "questions": questions,
        "table": len(there),
        "version": last,
    }


def _ask(connection: Connection, bundle: Path, facts: set[Triple], rng: random.Random) -> tuple[int, int]:
    """Number of questions, and of those that a model built from the table answers otherwise."""
    reference = built(bundle, facts, names_of(facts))
    held_out = models.questions(bundle)
    texts = rng.sample(held_out, min(QUESTIONS // 2, len(held_out)))
    new = sorted(fact for fact in facts if fact[0].startswith(NEW))
    for subject, relation, _ in rng.sample(new, min(QUESTIONS - len(texts), len(new))):
        texts.append(f"what is the {relation_text(relation)} of {spoken(subject)}")
    wrong = 0
    for text, result, own in zip(texts, asked(connection, texts), reference.ask_all(texts), strict=True):
        if what := difference(result, own):
            wrong += 1
            print(f"{text}: {what}", flush=True)
    return len(texts), wrong


def _request(write: Write) -> tuple[str, str, dict[str, Any]]:
    """A write as a request."""
    rows = [dict(zip(("subject", "relation", "object"), fact, strict=True)) for fact in write.facts]
    if write.kind == "remove":
        return "DELETE", "/v1/facts", {"facts": rows}
    body: dict[str, Any] = {"facts": rows, "replace": write.kind == "replace"}
    return "POST", "/v1/facts", body | {"names": names_of(set(write.facts))}


def names_of(facts: set[Triple]) -> dict[str, list[str]]:
    """Names of the entities that the writers bring."""
    return {end: [spoken(end)] for fact in facts for end in (fact[0], fact[2]) if end.startswith(NEW)}


def spoken(entity: str) -> str:
    """The name of an entity that a writer brings: ``bench/worker-3/subject-17`` is "worker 3 subject 17"."""
    return entity.removeprefix(NEW).replace("/", " ").replace("-", " ")
