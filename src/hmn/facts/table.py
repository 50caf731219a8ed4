"""A table of facts, (subject, relation, object) with names, in one canonical order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hmn.errors import DataError
from hmn.facts import ids as freebase
from hmn.facts.files.formats import read_rows
from hmn.facts.files.source import Problems, Skipped, readable
from hmn.facts.ids import canonical_id
from hmn.facts.names import COLUMNS as NAME_COLUMNS
from hmn.facts.names import Names, collect_names, read_names
from hmn.facts.numbering import NumberedFacts, canonical, from_columns, gather, with_inverse

COLUMNS = ("subject", "relation", "object")
FACTS_FILE = "facts.parquet"
NAMES_FILE = "names.parquet"

AnyInt = TypeVar("AnyInt", bound=np.integer[Any])


class Fact(NamedTuple):
    """One fact, by id and in words."""

    subject: str
    relation: str
    object: str
    subject_name: str
    relation_name: str
    object_name: str


@dataclass(frozen=True, eq=False, repr=False)
class FactTable:
    """An immutable table of N facts; a fact's cell id is its row.

    The same facts and names give the same table, whatever the order of their lines.

    Attributes:
        entities: pyarrow large_string array of E ids, sorted, distinct; an entity's number is its place.
        relations: R relation ids, sorted, distinct.
        subject, relation, object: ``(N,)`` int32 numbers; rows are distinct and sorted by the three.
        names: the names of the entities.
        skipped: bad rows that were passed over while the files were read.
    """

    entities: pa.Array
    relations: list[str]
    subject: NDArray[np.int32]
    relation: NDArray[np.int32]
    object: NDArray[np.int32]
    names: Names
    skipped: Skipped = field(default_factory=Skipped)

    @classmethod
    def read(
        cls,
        path: Path | str,
        names: Path | str | None = None,
        *,
        columns: Sequence[str] = COLUMNS,
        separator: str | None = None,
        inverse: bool = False,
        skip_bad: bool = False,
        progress: bool = False,
    ) -> FactTable:
        """Read facts, and names of their entities, from TSV, CSV, JSON lines or Parquet; plain, gz or zst.

        Freebase's spellings of an id are brought to one (``m.0abc``, ``people/person/gender``), and lines of
        FB2M with several objects become several facts.

        Args:
            path: the facts, see ``hmn.facts.files.formats.read_rows`` for the formats.
            names: (entity, name) rows, or Freebase's ``<fb:m.x> <fb:type.object.name> "x"@en .``.
            columns: the file's names for subject, relation and object; others than the default need a header.
            separator: the character between columns, where the suffix does not tell it.
            inverse: add every fact read backwards, as relation ``~relation``.
            skip_bad: count bad lines and go on, instead of raising at the first.
            progress: show a bar on a terminal.

        Raises:
            DataError: a file cannot be read or holds no fact; or a line is bad (``file:line: reason``): a
                wrong number of columns, an empty field, a duplicate fact, text that is not UTF-8, …
        """
        if len(set(columns)) != 3:
            raise DataError(f"columns is {tuple(columns)}, expected three names: subject, relation, object")
        path = Path(path)
        problems = Problems(skip_bad)
        table = read_rows(
            path,
            [tuple(columns)],
            problems,
            separator=separator,
            header=tuple(columns) != COLUMNS,
            progress=progress,
        )
        facts = _distinct(path, table.rows, problems)
        found = iter(()) if names is None else read_names(Path(names), problems, separator, progress)
        return cls._build(facts, found, problems, inverse)

    @classmethod
    def from_triples(
        cls,
        triples: Iterable[tuple[str, str, str]],
        names: Mapping[str, Sequence[str]] | None = None,
        *,
        inverse: bool = False,
    ) -> FactTable:
        """Make a table of (subject, relation, object) ids.

        Args:
            triples: the facts, in any order; numbered from 1 in messages.
            names: names by entity id; the first is the one that is shown.
            inverse: add every fact read backwards.

        Raises:
            DataError: there is no fact, one is a duplicate, or one is not three texts with something in them;
                or an entity's names are not a list of texts.
        """
        problems = Problems()
        facts = _distinct("triples", _checked(triples), problems)
        found = _checked_names(names or {})
        return cls._build(facts, found, problems, inverse)

    @classmethod
    def _build(
        cls, facts: NumberedFacts, found: Iterator[tuple[str, int, str]], problems: Problems, inverse: bool
    ) -> FactTable:
        names = collect_names(found, {entity: at for at, entity in enumerate(facts.entities)})
        return cls._of(with_inverse(facts) if inverse else facts, names, problems.skipped)

    @classmethod
    def _of(cls, facts: NumberedFacts, names: Names, skipped: Skipped) -> FactTable:
        entities = pa.array(facts.entities, pa.large_string())
        subject, relation, object_ = map(_frozen, (facts.subject, facts.relation, facts.object))
        return cls(entities, facts.relations, subject, relation, object_, names, skipped)

    def __repr__(self) -> str:
        """Say how large the table is."""
        sizes = f"{len(self):,} facts, {self.num_entities:,} entities, {len(self.relations):,} relations"
        return f"FactTable({sizes})"

    def __len__(self) -> int:
        """Number of facts, N."""
        return len(self.subject)

    @property
    def num_entities(self) -> int:
        """Number of entities, E."""
        return len(self.entities)

    def fact(self, cell: int) -> Fact:
        """The fact of a cell (0 to N - 1), by id and in words.

        Raises:
            IndexError: there is no such cell.
        """
        if not 0 <= cell < len(self):
            raise IndexError(f"cell {cell} of a table of {len(self)} facts")
        subject, relation, object_ = int(self.subject[cell]), int(self.relation[cell]), int(self.object[cell])
        return Fact(
            self.entities[subject].as_py(),
            self.relations[relation],
            self.entities[object_].as_py(),
            self.names_of(subject)[0],
            self.relation_text(relation),
            self.names_of(object_)[0],
        )

    def names_of(self, entity: int) -> list[str]:
        """All names of an entity, the one to show first; if it has none, its id, in words if it can be."""
        return self.names.of(entity) or [freebase.readable_id(self.entities[entity].as_py())]

    def relation_text(self, relation: int) -> str:
        """A relation in words, ``people person place of birth``; one read backwards begins ``inverse of``.

        ``hmn.facts.ids.relation_parts(facts.relations[relation])`` gives domain, type and property apart.
        """
        return freebase.relation_text(self.relations[relation])

    @cached_property
    def pair(self) -> NDArray[np.int64]:
        """``(N,)`` the number, from 0 in the order of rows, of each cell's (subject, relation)."""
        new = (np.diff(self.subject) != 0) | (np.diff(self.relation) != 0)
        return _frozen(np.concatenate([np.zeros(1, np.int64), np.cumsum(new, dtype=np.int64)]))

    @cached_property
    def pair_start(self) -> NDArray[np.int64]:
        """``(P + 1,)`` the cells of pair ``p`` are ``pair_start[p]`` to ``pair_start[p + 1] - 1``."""
        return _frozen(np.searchsorted(self.pair, np.arange(self.pair[-1] + 2)).astype(np.int64))

    def cells_of_pair(self, pair: int) -> NDArray[np.int64]:
        """Cells of a (subject, relation) pair, ascending."""
        return np.arange(self.pair_start[pair], self.pair_start[pair + 1])

    def cells_with_object(self, entity: int) -> NDArray[np.int64]:
        """Cells whose object is an entity, ascending; perhaps none."""
        start, cells = self._by_object
        return cells[start[entity] : start[entity + 1]].astype(np.int64)

    @cached_property
    def _by_object(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Offsets ``(E + 1,)`` into the cells ``(N,)`` in the order of their objects."""
        cells = np.argsort(self.object, kind="stable").astype(np.int32)
        count = np.bincount(self.object, minlength=self.num_entities)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(count)]), cells

    def entity_number(self, entity: str) -> int:
        """The number of an entity by its id in any of Freebase's spellings; -1 if it is not in the table."""
        return _place(self.entities, canonical_id(entity), key=lambda value: value.as_py())

    def cell_of(self, subject: str, relation: str, object: str) -> int:
        """The cell of a fact by its ids, in any of Freebase's spellings; -1 if it is not in the table."""
        row = (
            self.entity_number(subject),
            _place(self.relations, canonical_id(relation)),
            self.entity_number(object),
        )
        return int(self._cells(*(np.array([number]) for number in row))[0])

    def cells_of(
        self, subjects: Sequence[str], relations: Sequence[str], objects: Sequence[str]
    ) -> NDArray[np.int64]:
        """The cells ``(len(subjects),)`` of many facts by their ids: -1 where a fact is not there."""
        return self._cells(
            self._numbers(self.entities, subjects),
            self._numbers(pa.array(self.relations, pa.large_string()), relations),
            self._numbers(self.entities, objects),
        )

    @staticmethod
    def _numbers(known: pa.Array, ids: Sequence[str]) -> NDArray[np.int64]:
        wanted = pa.array([canonical_id(one) for one in ids], pa.large_string())
        found = pc.fill_null(pc.index_in(wanted, value_set=known), -1)
        numbers: NDArray[np.int64] = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return numbers

    def _cells(
        self, subject: NDArray[np.int64], relation: NDArray[np.int64], object: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Find rows by their three numbers, -1 where one is -1 or there is no such row."""
        pair = _search(self._pair_key, subject * len(self.relations) + relation)
        cell = _search(self._row_key, pair * self.num_entities + object)
        known = (subject >= 0) & (relation >= 0) & (object >= 0)
        return np.where(known, cell, -1)

    @cached_property
    def _pair_key(self) -> NDArray[np.int64]:
        first = self.pair_start[:-1]
        return self.subject[first].astype(np.int64) * len(self.relations) + self.relation[first]

    @cached_property
    def _row_key(self) -> NDArray[np.int64]:
        return self.pair * self.num_entities + self.object

    def find_entities(self, text: str) -> NDArray[np.int32]:
        """Entities, ascending, whose id is ``text`` or that have it as a name, but for case and spacing."""
        hashes, owners = self._by_name
        wanted = _folded(text)
        start = np.searchsorted(hashes, hash(wanted), side="left")
        end = np.searchsorted(hashes, hash(wanted), side="right")
        same_hash = (int(owner) for owner in np.unique(owners[start:end]))
        found = {one for one in same_hash if any(_folded(name) == wanted for name in self.names_of(one))}
        return np.array(sorted(found | ({self.entity_number(text)} - {-1})), np.int32)

    @cached_property
    def _by_name(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Hashes of all folded names, ascending, and the entity of each; a match is still to be compared."""
        nameless = np.flatnonzero(np.diff(self.names.start) == 0)
        ids = self.entities.take(pa.array(nameless)).to_pylist()
        texts = self.names.text.to_pylist() + [freebase.readable_id(one) for one in ids]
        hashes = np.fromiter((hash(_folded(text)) for text in texts), np.int64, len(texts))
        order = np.argsort(hashes, kind="stable")
        owners = np.concatenate([self.names.owner, nameless.astype(np.int32)])
        return hashes[order], owners[order]

    def write(self, folder: Path) -> None:
        """Write ``facts.parquet`` and ``names.parquet`` into a folder; same table, same bytes."""
        relations = pa.array(self.relations, pa.large_string())
        facts = {
            "subject": pa.DictionaryArray.from_arrays(self.subject, self.entities),
            "relation": pa.DictionaryArray.from_arrays(self.relation, relations),
            "object": pa.DictionaryArray.from_arrays(self.object, self.entities),
        }
        names = {"entity": self.entities.take(pa.array(self.names.owner)), "name": self.names.text}
        for file, columns in ((FACTS_FILE, facts), (NAMES_FILE, names)):
            pq.write_table(
                pa.table(columns),
                folder / file,
                compression="zstd",
                row_group_size=max(1, len(self)),
                dictionary_pagesize_limit=1 << 30,
            )

    @classmethod
    def load(cls, folder: Path) -> FactTable:
        """Read what ``write`` wrote.

        Raises:
            DataError: a file is missing, damaged, or not such a table.
        """
        facts, names = (_read_columns(folder / file, columns) for file, columns in _FILES.items())
        table, repeated = canonical(from_columns(*facts))
        if len(repeated):
            raise DataError(f"{folder / FACTS_FILE}: it repeats facts: it was not written by FactTable.write")
        entity, text = (column.cast(pa.large_string()).combine_chunks() for column in names)
        owner = pc.index_in(entity, value_set=pa.array(table.entities, pa.large_string()))
        if owner.null_count:
            raise DataError(
                f"{folder / NAMES_FILE}: it names entities that {FACTS_FILE} lacks: save the table again"
            )
        return cls._of(table, Names(owner.to_numpy(), text, len(table.entities)), Skipped())


_FILES = {FACTS_FILE: COLUMNS, NAMES_FILE: NAME_COLUMNS}


def _read_columns(path: Path, columns: tuple[str, ...]) -> list[pa.ChunkedArray]:
    """Read columns of text, dictionary-encoded, from a Parquet file of ours."""
    with readable(path):
        table = pq.read_table(path, read_dictionary=list(columns))
    if table.column_names != list(columns):
        raise DataError(
            f"{path}: it has columns {table.column_names}, expected {list(columns)}: save it again"
        )
    return [table[column] for column in columns]


def _distinct(place: Path | str, rows: Iterable[tuple[int, list[str]]], problems: Problems) -> NumberedFacts:
    """Bring rows into canonical order, and report the repeated ones."""
    numbered, line = gather(rows)
    if not len(line):
        raise DataError(f"{place}: no good fact in it: expected rows of {', '.join(COLUMNS)}")
    facts, repeated = canonical(numbered)
    for at in repeated:
        problems.bad(place, int(line[at]), "duplicate fact: an earlier line says the same")
    return facts


def _checked(triples: Iterable[tuple[str, str, str]]) -> Iterator[tuple[int, list[str]]]:
    """Number triples from 1, as the lines of a file, and check that each is three texts."""
    for number, triple in enumerate(triples, 1):
        cells = list(triple)
        if len(cells) != 3 or not all(isinstance(cell, str) and cell.strip() for cell in cells):
            raise DataError(
                f"triples:{number}: got {triple!r}, expected three texts: subject, relation, object"
            )
        yield number, cells


def _checked_names(names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, int, str]]:
    """Give ``(entity, place, name)`` of each name, and check that each entity has a list of texts."""
    for entity, given in names.items():
        if isinstance(given, str) or not all(isinstance(name, str) and name.strip() for name in given):
            raise DataError(
                f"names of {entity!r} are {given!r}, expected a list of texts, none of them empty"
            )
        for at, name in enumerate(given):
            yield entity, at, name


def _search(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of numbers in ascending keys, -1 where a number is none of them."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def _place(ids: Any, wanted: str, key: Callable[[Any], str] = str) -> int:
    """Place of an id in a sorted sequence, -1 if it is not there."""
    at = bisect_left(ids, wanted, key=key)
    return at if at < len(ids) and key(ids[at]) == wanted else -1


def _folded(text: str) -> str:
    """A name without the differences that do not matter: case and spacing."""
    return " ".join(text.casefold().split())


def _frozen(numbers: NDArray[AnyInt]) -> NDArray[AnyInt]:
    numbers.flags.writeable = False
    return numbers
