"""Names of entities, from two columns or from Freebase's ``<fb:m.x> <fb:type.object.name> "name"@en .``."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts.files.formats import format_of, read_rows
from hmn.facts.files.layout import Layout
from hmn.facts.files.source import Source
from hmn.facts.files.texts import large, places_in
from hmn.facts.ids import canonical_id, is_text, one_form
from hmn.facts.rdf.graph import read_graph

NAME = Layout(("entity", "name"))
"""Columns of a file of names."""

FEW = 100
"""Upper limit of the names that are put in order without pyarrow."""

RankedName = tuple[str, int, str]
"""Entity id, rank and name; an entity's names are ordered by rank, and the first one is shown."""

_RANK = {"type/object/name": 0, "common/topic/alias": 1}
"""Rank of a name, by the relation that gives it; the lowest is shown."""
_TRIPLE = re.compile(r"<?(?:fb:|http://rdf\.freebase\.com/ns/)\S+\s+<?(?:fb:|http)\S+\s+\S")
"""Pattern of the beginning of an RDF triple of Freebase."""
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"(?:@([A-Za-z-]+)|\^\^\S+)?\s*\.?')
"""Pattern of an RDF text; groups are the text and its language."""
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
"""Pattern of an escape in an RDF text."""
_ESCAPED = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
"""Character of an escape, by its letter."""


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
        names: list[str] = self.text[self.start[entity] : self.start[entity + 1]].to_pylist()
        return names

    @property
    def owner(self) -> NDArray[np.int32]:
        """``(len(text),)`` the entity of each name."""
        return np.repeat(np.arange(len(self.start) - 1, dtype=np.int32), np.diff(self.start))


def collect_names(names: Iterable[RankedName], entities: Sequence[str]) -> Names:
    """Gather the names of entities, in whatever order they come.

    An entity's names are ordered by rank, then by the alphabet, without repeats. Names of other entities are
    dropped.
    """
    number_of = {entity: number for number, entity in enumerate(entities)}
    owner, ranks, texts = array("i"), array("i"), []
    last, number = "", number_of.get("")
    for entity, rank, name in names:
        if entity != last:
            last, number = entity, number_of.get(canonical_id(entity))
        if number is not None:
            owner.append(number)
            ranks.append(rank)
            texts.append(" ".join(name.split()))
    if len(texts) <= FEW:
        return _few_names(owner, ranks, texts, len(entities))
    table = pa.table(
        {
            "owner": np.frombuffer(owner, np.int32),
            "rank": np.frombuffer(ranks, np.int32),
            "name": pa.array(texts, pa.large_string()),
        }
    )
    table = table.group_by(["owner", "name"], use_threads=False).aggregate([("rank", "min")])
    import pyarrow.compute as pc  # a saved table is read without it

    order = pc.sort_indices(table, [(key, "ascending") for key in ("owner", "rank_min", "name")])
    table = table.take(order)
    return Names(table["owner"].to_numpy(), table["name"].combine_chunks(), len(entities))


def _few_names(owner: Sequence[int], ranks: Sequence[int], texts: Sequence[str], num_entities: int) -> Names:
    """As ``collect_names``, for as few names as take less time than the calls of pyarrow."""
    lowest: dict[tuple[int, str], int] = {}
    for entity, rank, text in zip(owner, ranks, texts, strict=True):
        lowest[entity, text] = min(rank, lowest.get((entity, text), rank))
    order = sorted((entity, rank, text) for (entity, text), rank in lowest.items())
    owners = np.array([entity for entity, *_ in order], np.int32)
    texts = [text for *_, text in order]
    return Names(owners, pa.array(texts, pa.large_string()), num_entities)


def saved_names(path: Path, owned: pa.ChunkedArray, text: pa.ChunkedArray, entities: pa.Array) -> Names:
    """The names in the columns of a file that ``FactTable.write`` wrote.

    Args:
        path: the file.
        owned: dictionary-encoded ids of the entity of each name.
        text: the names.
        entities: ids of all entities, by number.

    Raises:
        DataError: an entity is not among them, or comes after one that should follow it.
    """
    encoded = owned.unify_dictionaries().combine_chunks()
    owner = places_in(large(encoded.dictionary), entities)[encoded.indices.to_numpy()]
    if (owner < 0).any():
        raise DataError(f"{path}: it names entities that the facts lack: save the table again")
    if (owner[1:] < owner[:-1]).any():
        raise DataError(f"{path}: its rows are not in the order of the facts' entities: save the table again")
    return Names(owner.astype(np.int32), large(text.combine_chunks()), len(entities))


def names_beyond(known: Sequence[str], names: Iterable[str]) -> list[str]:
    """Those of some names that are not known yet in any form of Unicode."""
    forms = set(map(one_form, known))
    return [name for name in names if one_form(name) not in forms]


def checked_names(names: Mapping[str, Sequence[str]]) -> Iterator[RankedName]:
    """Rank names given in Python by their place in the entity's list.

    Raises:
        DataError: an entity's names are not a list of texts, none of them blank.
    """
    if not isinstance(names, Mapping):
        raise DataError(f"names is {names!r:.80}, expected a dictionary of lists of texts by entity")
    for entity, texts in names.items():
        is_list = isinstance(texts, Iterable) and not isinstance(texts, (str, bytes))
        listed = list(texts) if is_list else []
        if not is_text(entity) or not is_list or not all(map(is_text, listed)):
            raise DataError(
                f"names of {entity!r:.80} are {texts!r:.200}, expected a list of texts, none of them blank"
            )
        for rank, name in enumerate(listed):
            yield entity, rank, name


def read_names(source: Source, separator: str | None, language: str | None = None) -> Iterator[RankedName]:
    """Read the names in a file; those of two columns have rank 0, Freebase's aliases rank 1.

    Args:
        source: the file.
        separator: the text between columns, for files that have it.
        language: the language of names in RDF.

    Raises:
        DataError: the file cannot be read; or it has a bad line, and bad lines are not skipped.
    """
    kind = format_of(source)
    if kind in ("text", "rdf") and source.first_lines and _TRIPLE.match(source.first_lines[0][1]):
        yield from _read_triples(source)
        return
    if kind == "rdf":
        yield from read_graph(source, language).names
        return
    for _, (entity, name) in read_rows(source, [NAME], separator=separator).rows:
        yield entity, 0, name


def _read_triples(source: Source) -> Iterator[RankedName]:
    """Read Freebase's English names and aliases; triples of other relations are ignored."""
    for number, line in source.lines():
        parts = line.split(None, 2)
        if len(parts) != 3:
            triple = '<id> <relation> "name"@en .'
            source.bad(number, f"wrong column count: got {len(parts)}, expected a triple {triple}")
            continue
        rank = _RANK.get(canonical_id(parts[1]))
        if rank is None:
            continue
        literal = _LITERAL.fullmatch(parts[2].rstrip())
        if literal is None:
            source.bad(number, f'bad name {parts[2][:40]!r}, expected "name"@en .')
        elif (literal[2] or "en").split("-")[0].lower() == "en":
            try:
                name = _ESCAPE.sub(_unescape, literal[1])
            except ValueError as error:
                source.bad(number, f"bad escape in the name ({error})")
                continue
            if name.strip():
                yield parts[0], rank, name
            else:
                source.bad(number, "empty field: name")


def _unescape(match: re.Match[str]) -> str:
    """Give the character that an escape stands for; ``ValueError`` if there is none."""
    code = match[1] or match[2]
    if not code:
        if match[3] not in _ESCAPED:
            raise ValueError(f"unknown escape \\{match[3]}")
        return _ESCAPED[match[3]]
    point = int(code, 16)
    if point == 0 or 0xD800 <= point <= 0xDFFF or point > 0x10FFFF:
        raise ValueError(f"\\u{code} is no character")
    return chr(point)
