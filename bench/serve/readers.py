"""Readers while a client writes: every answer is that of its version's table, and none waits for long."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from bench.serve import models
from bench.serve.agreement import Table, Triple, contradiction, difference, facts_of, triple
from bench.serve.server import Request, Sample, Server, command, crowd, milliseconds
from hmn.qa.factoid_qa import FactoidQA

READERS = 8
"""Clients that ask."""
SUBJECTS = 100
"""Subjects that the writer changes."""
RELATIONS = ("bench/works_as", "bench/lives_in", "bench/likes")
"""Relations of what it writes."""
OBJECTS = 40
"""Different objects of what it writes."""
MOST_FACTS = 10
"""Upper limit of the facts of a write."""
LISTED = 0.05
"""Share of requests that list the facts of a subject."""
OWN = 0.5
"""Share of questions about a subject that the writer changes."""
ANSWERS = 3
"""Answers per question."""


class Write(NamedTuple):
    """A write that was acknowledged: its kind, its facts, and the version after it."""

    kind: str
    facts: list[Triple]
    version: int


class Writer:
    """Changes facts until the block ends, each write as soon as the one before is acknowledged."""

    def __init__(self, server: Server) -> None:
        self.writes: list[Write] = []
        self.seconds: list[float] = []
        self._server, self._rng, self._stop = server, random.Random(0), threading.Event()
        self._table = Table([])
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = self._server.connect()
        while not self._stop.is_set():
            kind, facts = self._next()
            began = time.perf_counter()
            written = connection.json(*_write(kind, facts))
            self.seconds.append(time.perf_counter() - began)
            self._table.take(kind, facts)
            self.writes.append(Write(kind, facts, written["version"]))
        connection.close()

    def _next(self) -> tuple[str, list[Triple]]:
        rng = self._rng
        count = rng.randint(1, MOST_FACTS)
        kind = rng.choice(("add", "replace", "replace", "remove"))
        there = sorted(self._table.facts())
        if kind == "remove" and there:
            return kind, rng.sample(there, min(count, len(there)))
        pairs = [(subject_of(rng), rng.choice(RELATIONS)) for _ in range(count)]
        return "add" if kind == "remove" else kind, [
            (*pair, f"bench/thing-{rng.randrange(OBJECTS)}") for pair in dict.fromkeys(pairs)
        ]


def measure(model: Path, work: Path, seconds: float) -> dict[str, Any]:
    """Ask for some time without writes and for as long with them; then look at every answer."""
    served = models.copied(model, work / "read")
    texts = models.questions(model)
    rngs = [random.Random(reader) for reader in range(READERS)]

    def request(reader: int, number: int) -> Request:  # noqa: ARG001
        rng = rngs[reader]
        subject = subject_of(rng)
        if rng.random() < LISTED:
            return "GET", f"/v1/facts?subject={subject}&limit=1000", None
        own = f"{rng.choice(('where', 'as what', 'what'))} does {name_of(subject)} " + rng.choice(
            ("live", "work", "like")
        )
        text = own if rng.random() < OWN else rng.choice(texts)
        return "POST", "/v1/ask", {"question": text, "k": ANSWERS}

    with Server(served, work / "readers.log") as server:
        refusal = _second(served, server)
        crowd(server, READERS, min(seconds, 3.0), request)
        quiet = crowd(server, READERS, seconds, request)
        with Writer(server) as writer:
            busy = crowd(server, READERS, seconds, request)
    times = {"without writes": quiet, "with writes": busy}
    return {
        "readers": READERS,
        "seconds": seconds,
        "second_server": refusal,
        "latency": {name: _latency(samples) for name, samples in times.items()},
        "writes": len(writer.writes),
        "written_facts": sum(len(write.facts) for write in writer.writes),
        "write_p50": milliseconds(writer.seconds, 50),
        **_agreement(model, [*quiet, *busy], writer.writes),
    }


def _latency(samples: list[Sample]) -> dict[str, float]:
    """Number and times of the questions."""
    seconds = [sample.seconds for sample in samples if sample.request[0] == "POST"]
    return {"questions": len(seconds)} | {f"p{p}": milliseconds(seconds, p) for p in (50, 99)}


def _second(served: Path, server: Server) -> str:
    """What a second server on the same folder says; it must name the process of the first."""
    second = subprocess.run([*command(served), "--port", "0"], capture_output=True, text=True, timeout=120)
    line = second.stderr.strip().splitlines()[-1]
    if second.returncode == 0 or str(server.pid) not in line:
        raise SystemExit(f"a second server: {line!r}, expected a refusal that names process {server.pid}")
    return line.replace(str(served), "MODEL").replace(str(server.pid), "PID")


def _agreement(model: Path, samples: list[Sample], writes: list[Write]) -> dict[str, Any]:
    """Compare every response with the table of its version, and with a model that took the same writes."""
    reference = FactoidQA.from_pretrained(model)
    table = Table(facts_of(reference))
    if [write.version for write in writes] != list(range(1, len(writes) + 1)):
        raise SystemExit(f"versions of {len(writes):,} writes are not 1, 2, 3, …, expected them in order")
    by_version: dict[int, list[tuple[Request, Any]]] = {}
    for sample in samples:
        if sample.status != 200:
            raise SystemExit(
                f"{sample.request}: status {sample.status}, expected 200: {sample.body.decode()}"
            )
        found = json.loads(sample.body)
        by_version.setdefault(found["version"], []).append((sample.request, found))
    wrong: Counter[str] = Counter()
    for version in range(max(by_version) + 1):
        if version:
            kind, facts, _ = writes[version - 1]
            table.take(kind, facts)
            _do(reference, kind, facts)
        for what in _differences(by_version.get(version, []), table, reference):
            wrong[what.partition(":")[0]] += 1
            print(f"version {version}: {what}", flush=True)
    return {"responses": len(samples), "versions_seen": len(by_version), "wrong": sum(wrong.values())}


def _differences(found: list[tuple[Request, Any]], table: Table, reference: FactoidQA) -> list[str]:
    """What responses of one version and the table and model of that version differ in."""
    differences = []
    questions = [(request[2]["question"], page["results"][0]) for request, page in found if request[2]]
    answers = reference.ask_all([text for text, _ in questions], ANSWERS)
    for (text, result), own in zip(questions, answers, strict=True):
        what = contradiction(result, table) or difference(result, own)
        if what:
            differences.append(f"answer: {text}: {what}")
    for (_, path, body), page in found:
        if body is None:
            subject = path.partition("subject=")[2].partition("&")[0]
            expected = {
                (subject, relation, object_)
                for relation in RELATIONS
                for object_ in table.objects(subject, relation)
            }
            if expected != set(map(triple, page["facts"])):
                differences.append(f"list: {subject}: {page['facts']}, expected {sorted(expected)}")
    return differences


def _do(model: FactoidQA, kind: str, facts: list[Triple]) -> None:
    """The same write, by the library."""
    if kind == "remove":
        model.remove_facts(facts)
    else:
        (model.add_facts if kind == "add" else model.replace_facts)(facts, _names(facts))


def _write(kind: str, facts: list[Triple]) -> Request:
    rows = [dict(zip(("subject", "relation", "object"), fact, strict=True)) for fact in facts]
    if kind == "remove":
        return "DELETE", "/v1/facts", {"facts": rows}
    return "POST", "/v1/facts", {"facts": rows, "names": _names(facts), "replace": kind == "replace"}


def _names(facts: list[Triple]) -> dict[str, list[str]]:
    return {subject: [name_of(subject)] for subject, _, _ in facts}


def subject_of(rng: random.Random) -> str:
    """A subject that the writer changes."""
    return f"bench/person-{rng.randrange(SUBJECTS)}"


def name_of(subject: str) -> str:
    """Its name."""
    return subject.removeprefix("bench/").replace("-", " number ")
