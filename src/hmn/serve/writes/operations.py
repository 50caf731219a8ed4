"""What a write does: facts that are added, removed or replaced, as JSON and as checked rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hmn.errors import DataError, HMNError, check_flag
from hmn.facts.ids import canonical_id, without_label
from hmn.facts.table import FactTable

Triple = tuple[str, str, str]
"""Ids of subject, relation and object."""
KINDS = ("add", "remove", "replace")
"""Kinds of operations."""
COLUMNS = ("subject", "relation", "object")
"""Fields of a fact that is given as a dictionary."""
OPTIONS = {"add": {"names"}, "remove": {"ignore_missing"}, "replace": {"names"}}
"""Further fields of an operation, by what it does."""


@dataclass(frozen=True)
class Operation:
    """One step of a write; ids are in the spelling of tables.

    Attributes:
        kind: ``add``, ``remove`` or ``replace``; see the methods of ``FactoidQA``.
        facts: The facts, in the order of tables, without repeats.
        names: Names by entity.
        ignore_missing: Pass over facts to remove that are not there.
    """

    kind: str
    facts: list[Triple]
    names: dict[str, list[str]] = field(default_factory=dict)
    ignore_missing: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The operation for JSON, as ``checked`` takes it."""
        given: dict[str, Any] = {self.kind: [list(fact) for fact in self.facts]}
        if self.names:
            given["names"] = self.names
        if self.ignore_missing:
            given["ignore_missing"] = True
        return given


def checked(operations: object) -> list[Operation]:
    """Check what a user asks for.

    Args:
        operations: A list of dictionaries such as ``{"add": [["q1", "person/wrote", "q2"]], "names": {"q1":
            ["Ada"]}}``. ``remove`` and ``replace`` stand in the place of ``add``; ``remove`` may have
            ``"ignore_missing": true``. A fact may be ``{"subject": …, "relation": …, "object": …}`` too.

    Raises:
        DataError: Something is not in this form. The message says which operation it is, from 1.
    """
    if isinstance(operations, Mapping):
        operations = [operations]
    if isinstance(operations, (str, bytes)) or not isinstance(operations, Iterable):
        raise DataError(f"operations is {operations!r:.80}, expected a list such as [{{'add': [facts]}}]")
    found = []
    for number, given in enumerate(operations, 1):
        try:
            found.append(_checked(given))
        except HMNError as error:
            raise DataError(f"operation {number}: {error}") from None
    if not found:
        raise DataError("there is no operation, expected at least one such as {'add': [facts]}")
    return found


def restored(text: str) -> list[Operation]:
    """The operations that ``packed`` wrote, as they were."""
    found = []
    for given in json.loads(text):
        (kind,) = given.keys() & set(KINDS)
        facts = [(subject, relation, object_) for subject, relation, object_ in given[kind]]
        found.append(Operation(kind, facts, given.get("names", {}), given.get("ignore_missing", False)))
    return found


def packed(operations: Sequence[Operation]) -> str:
    """Operations as JSON; equal ones give the same text."""
    given = [operation.as_dict() for operation in operations]
    return json.dumps(given, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    """A checksum that is equal for equal writes alone."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(given: object) -> Operation:
    if not isinstance(given, Mapping):
        raise DataError(f"got {given!r:.80}, expected a dictionary such as {{'add': [facts]}}")
    kinds = [kind for kind in KINDS if kind in given]
    if len(kinds) != 1:
        raise DataError(f"got the fields {sorted(map(str, given))}, expected one of {', '.join(KINDS)}")
    kind = kinds[0]
    unknown = sorted(map(str, given.keys() - {kind} - OPTIONS[kind]))
    if unknown:
        raise DataError(f"got the fields {unknown} beside {kind}, expected {', '.join(OPTIONS[kind])}")
    names, ignore_missing = given.get("names"), given.get("ignore_missing", False)
    check_flag("ignore_missing", ignore_missing)
    rows = given[kind]
    is_list = isinstance(rows, Iterable) and not isinstance(rows, (str, bytes, Mapping))
    table = FactTable.from_triples(map(_row, rows) if is_list else rows, names)
    entities = table.entities.to_pylist()
    _check_named(names or {}, {*entities, *map(without_label, table.relations)})
    columns = (table.subject.tolist(), table.relation.tolist(), table.object.tolist())
    facts = [(entities[s], table.relations[r], entities[o]) for s, r, o in zip(*columns, strict=True)]
    own = {entity: table.own_names(number) for number, entity in enumerate(entities)} if names else {}
    return Operation(kind, facts, {entity: texts for entity, texts in own.items() if texts}, ignore_missing)


def _row(row: object) -> Any:
    """A fact as a row; anything that is none is left to the table, which refuses it."""
    if isinstance(row, Mapping):
        return [row[name] for name in COLUMNS] if set(row) == set(COLUMNS) else None
    return row if isinstance(row, (list, tuple)) else None


def _check_named(names: Mapping[str, Any], known: set[str]) -> None:
    """Refuse names that no fact of the operation has a use for: they would be lost."""
    for entity in names:
        if canonical_id(entity) not in known:
            raise DataError(
                f"names are given for {entity!r}, which no fact of the operation has, expected an entity of "
                "the operation: add its names with a fact about it"
            )
