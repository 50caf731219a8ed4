"""Whether what a server says is so: a table as Python sets, and a model that is built from it.

Nothing of the code that serves is used here: writes are folded by hand, and the model takes them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.serve.server import Connection
from hmn.qa.answer import Answers
from hmn.qa.factoid_qa import FactoidQA

TOLERANCE = 1e-4
"""Upper limit of the difference of two probabilities that count as equal: batches differ in rounding."""
PER_REQUEST = 100
"""Questions per request."""

Triple = tuple[str, str, str]
"""Ids of subject, relation and object."""


class Table:
    """Facts that come and go, by subject and relation."""

    def __init__(self, facts: Iterable[Triple]) -> None:
        self._objects: dict[tuple[str, str], set[str]] = {}
        self.take("add", facts)

    def take(self, kind: str, facts: Iterable[Triple]) -> None:
        """Do a write: ``add``, ``remove`` or ``replace``."""
        rows = list(facts)
        if kind == "replace":
            for subject, relation, _ in rows:
                self._objects[subject, relation] = set()
        for subject, relation, object_ in rows:
            objects = self._objects.setdefault((subject, relation), set())
            if kind == "remove":
                objects.discard(object_)
            else:
                objects.add(object_)

    def copy(self) -> Table:
        """A table of its own with the same facts."""
        return Table(self.facts())

    def facts(self) -> set[Triple]:
        """All facts."""
        return {(*pair, object_) for pair, objects in self._objects.items() for object_ in objects}

    def objects(self, subject: str, relation: str) -> set[str]:
        """The objects of a pair."""
        return self._objects.get((subject, relation), set())


def facts_of(model: FactoidQA) -> set[Triple]:
    """The facts of a model that was just loaded."""
    return {model.facts.fact(cell)[:3] for cell in range(len(model.facts))}


def built(bundle: Path, facts: set[Triple], names: Mapping[str, Sequence[str]]) -> FactoidQA:
    """A model of these facts: the bundle's, changed in one go."""
    model = FactoidQA.from_pretrained(bundle)
    before = facts_of(model)
    added, removed = sorted(facts - before), sorted(before - facts)
    if added:
        used = {entity for fact in added for entity in (fact[0], fact[2])}
        model.add_facts(added, {entity: names[entity] for entity in sorted(used & names.keys())})
    if removed:
        model.remove_facts(removed)
    return model


def listed(connection: Connection) -> set[Triple]:
    """All facts that a server has, page by page."""
    found: list[Triple] = []
    after = ""
    while True:
        page = connection.json("GET", f"/v1/facts?limit=1000{after}")
        found += [triple(fact) for fact in page["facts"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    if len(set(found)) != len(found):
        raise SystemExit(f"a list of {len(found):,} facts has {len(set(found)):,} different ones")
    return set(found)


def asked(connection: Connection, texts: Sequence[str], k: int = 5) -> list[dict[str, Any]]:
    """A server's answers to questions."""
    results: list[dict[str, Any]] = []
    for first in range(0, len(texts), PER_REQUEST):
        part = list(texts[first : first + PER_REQUEST])
        results += connection.json("POST", "/v1/ask", {"question": part, "k": k})["results"]
    return results


def triple(fact: Mapping[str, str]) -> Triple:
    """The ids of a fact in JSON."""
    return fact["subject"], fact["relation"], fact["object"]


def difference(result: Mapping[str, Any], own: Answers) -> str:
    """What an answer over HTTP and one in process differ in; empty if they agree.

    Answers of equal probability may come in any order, and at the end one in the place of another.
    """
    known = own.known_probability
    if known is None or result["known_probability"] is None:
        if known is not result["known_probability"]:
            return f"known {result['known_probability']} and {known}"
    elif abs(result["known_probability"] - known) > TOLERANCE:
        return f"known {result['known_probability']} and {known}"
    theirs, ours = _by_pair(result["answers"]), _by_pair(own.as_dict()["answers"])
    for pair in theirs.keys() & ours.keys():
        if theirs[pair][1:] != ours[pair][1:]:
            return f"{pair}: {theirs[pair][1:]} and {ours[pair][1:]}"
        if abs(theirs[pair][0] - ours[pair][0]) > TOLERANCE:
            return f"{pair}: probability {theirs[pair][0]} and {ours[pair][0]}"
    left, right = (
        sorted(one[pair][0] for pair in one.keys() - other.keys())
        for one, other in ((theirs, ours), (ours, theirs))
    )
    if len(left) != len(right) or any(abs(a - b) > TOLERANCE for a, b in zip(left, right, strict=True)):
        return f"{sorted(theirs)} and {sorted(ours)}"
    return ""


def contradiction(result: Mapping[str, Any], table: Table) -> str:
    """What an answer says that a table does not; empty if there is nothing."""
    for answer in result["answers"]:
        shown = [triple(fact) for fact in answer["facts"]]
        objects = table.objects(*shown[0][:2])
        if answer["count"] != len(objects) or not {fact[2] for fact in shown} <= objects:
            return f"{shown} of {answer['count']}, expected {sorted(objects)}"
    return ""


def _by_pair(answers: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Probability, number and facts of each answer, by its subject and relation."""
    return {
        triple(answer["facts"][0])[:2]: (
            answer["probability"],
            answer["count"],
            [triple(fact) for fact in answer["facts"]],
            answer["answers"],
        )
        for answer in answers
    }
