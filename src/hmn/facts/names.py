"""Names of entities, out of two columns or Freebase's ``<fb:m.x> <fb:type.object.name> "name"@en .``."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hmn.facts.files.formats import is_text, read_rows
from hmn.facts.files.source import Problems, text_lines
from hmn.facts.ids import canonical_id

COLUMNS = ("entity", "name")

_RANK = {"type/object/name": 0, "common/topic/alias": 1}
_TRIPLE = re.compile(r"<?(?:fb:|http://rdf\.freebase\.com/ns/)\S+\s+<?(?:fb:|http)\S+\s+\S")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"(?:@([A-Za-z-]+)|\^\^\S+)?\s*\.?')
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}


class Names:
    """Names of entities by number.

    Attributes:
        start: ``(E + 1,)`` int64; the names of entity ``e`` are ``text[start[e]:start[e + 1]]``.
        text: pyarrow large_string array of all names.
    """

    def __init__(self, owner: NDArray[np.int32], text: pa.Array, num_entities: int) -> None:
        """Take the entity ``(len(text),)`` of each name, ascending."""
        self.start = np.searchsorted(owner, np.arange(num_entities + 1)).astype(np.int64)
        self.start.flags.writeable = False
        self.text = text

    def of(self, entity: int) -> list[str]:
        """The names of an entity, perhaps none."""
        found: list[str] = self.text[self.start[entity] : self.start[entity + 1]].to_pylist()
        return found

    @property
    def owner(self) -> NDArray[np.int32]:
        """``(len(text),)`` the entity of each name."""
        return np.repeat(np.arange(len(self.start) - 1, dtype=np.int32), np.diff(self.start))


def collect_names(found: Iterator[tuple[str, int, str]], number_of: Mapping[str, int]) -> Names:
    """Gather names as ``(entity id, rank, name)``, in whatever order they come.

    An entity's names come in the order of rank, then of the alphabet, each once. Entities that ``number_of``
    lacks are dropped.
    """
    owner, ranks, texts = array("i"), array("i"), []
    last, number = "", number_of.get("")
    for entity, rank, name in found:
        if entity != last:
            last, number = entity, number_of.get(canonical_id(entity))
        if number is not None:
            owner.append(number)
            ranks.append(rank)
            texts.append(" ".join(name.split()))
    table = pa.table(
        {
            "owner": np.frombuffer(owner, np.int32),
            "rank": np.frombuffer(ranks, np.int32),
            "name": pa.array(texts, pa.large_string()),
        }
    )
    table = table.group_by(["owner", "name"], use_threads=False).aggregate([("rank", "min")])
    order = pc.sort_indices(table, [(key, "ascending") for key in ("owner", "rank_min", "name")])
    table = table.take(order)
    return Names(table["owner"].to_numpy(), table["name"].combine_chunks(), len(number_of))


def read_names(
    path: Path, problems: Problems, separator: str | None, progress: bool
) -> Iterator[tuple[str, int, str]]:
    """Give ``(entity id, rank, name)`` of each name in a file; rank 1 is an alias.

    Raises:
        DataError: the file cannot be read, or has a bad line and none may be skipped.
    """
    if not is_text(path):
        separator = None
    else:
        _, first = next(text_lines(path, Problems(skip_bad=True)), (0, ""))
        if _TRIPLE.match(first):
            yield from _read_triples(path, problems, progress)
            return
        if "\t" in first:
            separator = None
    table = read_rows(path, [COLUMNS], problems, separator=separator, progress=progress)
    for _, (entity, name) in table.rows:
        yield entity, 0, name


def _read_triples(path: Path, problems: Problems, progress: bool) -> Iterator[tuple[str, int, str]]:
    """Read Freebase's names and aliases in English; triples of other relations are passed over."""
    for number, line in text_lines(path, problems, progress):
        parts = line.split(None, 2)
        if len(parts) != 3:
            problems.bad(
                path,
                number,
                f'wrong column count: got {len(parts)}, expected a triple <id> <relation> "name"@en .',
            )
            continue
        rank = _RANK.get(canonical_id(parts[1]))
        if rank is None:
            continue
        literal = _LITERAL.fullmatch(parts[2].rstrip())
        if literal is None:
            problems.bad(path, number, f'bad name {parts[2][:40]!r}, expected "name"@en .')
        elif (literal[2] or "en").split("-")[0].lower() == "en":
            try:
                name = _ESCAPE.sub(_unescape, literal[1])
            except ValueError as error:
                problems.bad(path, number, f"bad escape in the name ({error})")
                continue
            if name.strip():
                yield parts[0], rank, name
            else:
                problems.bad(path, number, "empty field: name")


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    if not code:
        if match[3] not in _ESCAPED:
            raise ValueError(f"unknown escape \\{match[3]}")
        return _ESCAPED[match[3]]
    point = int(code, 16)
    if point == 0 or 0xD800 <= point <= 0xDFFF or point > 0x10FFFF:
        raise ValueError(f"\\u{code} is no character")
    return chr(point)
