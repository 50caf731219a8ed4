"""A table of facts, (subject, relation, object) with names, in one canonical order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hmn.errors import DataError, check_flag
from hmn.facts.files.layout import Layout
from hmn.facts.files.parquet import read_text_columns
from hmn.facts.files.source import NONE_SKIPPED, Skipped, Source
from hmn.facts.given.facts import read_facts
from hmn.facts.given.relations import Labels
from hmn.facts.ids import is_text, relation_text
from hmn.facts.lookup import FactLookup, NameLookup, frozen
from hmn.facts.names import NAME, Names, RankedName, checked_names, collect_names, read_names, saved_names
from hmn.facts.numbering import (
    FACT,
    NumberedFacts,
    canonical,
    checked_triples,
    distinct_facts,
    from_columns,
    in_order,
    with_inverse,
)
from hmn.facts.ragged import Ragged, spans

FACTS_FILE = "facts.parquet"
"""File of the facts in a saved table's folder."""
NAMES_FILE = "names.parquet"
"""File of the names in a saved table's folder."""


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
    """An immutable table of N facts; the cell id of a fact is its row.

    The same facts and names give the same table, whatever the order of their lines.

    Attributes:
        entities: pyarrow large_string array of E ids, sorted and distinct; an entity's number is its place.
        relations: R relation ids, sorted and distinct; a relation's number is its place.
        subject, relation, object: ``(N,)`` int32 numbers; rows are distinct and sorted by the three.
        names: the names of the entities.
        skipped: bad lines that were skipped while the files were read.
        repeated: facts that came again, by their lines; the table holds each once.
        notes: what to know about how the files were read, such as a wide table that was recognised.
    """

    entities: pa.Array
    relations: list[str]
    subject: NDArray[np.int32]
    relation: NDArray[np.int32]
    object: NDArray[np.int32]
    names: Names
    skipped: Skipped = NONE_SKIPPED
    repeated: Skipped = NONE_SKIPPED
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        path: Path | str,
        names: Path | str | None = None,
        *,
        columns: Sequence[str] = FACT.columns,
        separator: str | None = None,
        encoding: str | None = None,
        wide: bool | None = None,
        subject: str | None = None,
        sheet: str | None = None,
        language: str | None = None,
        inverse: bool = False,
        skip_bad: bool = False,
        progress: bool = False,
    ) -> FactTable:
        """Read facts, and names of their entities, from files of any known format.

        Every spelling of a Freebase id becomes the same id (``m.0abc``, ``people/person/gender``), and lines
        of FB2M with several objects become several facts. Repeated facts are counted in ``repeated``.

        Args:
            path: the facts, where ``-`` is standard input; see ``hmn.facts.files.formats.read_rows``.
            names: (entity, name) rows, or Freebase's ``<fb:m.x> <fb:type.object.name> "x"@en .``.
            columns: the file's names for subject, relation and object; names of your own need a header.
            separator: the text between columns, for files that have it; that of others is recognised.
            encoding: the encoding of files that are not UTF-8.
            wide: each row is an entity and each column a relation; recognised if it is not given.
            subject: the column of a wide table that names the entities, if it is not to be recognised.
            sheet: the sheet of a spreadsheet that holds the facts.
            language: the language of names and values in RDF; the most frequent one if it is not given.
            inverse: also add the inverse of every fact, with relation ``~relation``.
            skip_bad: count bad lines and go on, instead of raising at the first one.
            progress: show a bar on a terminal.

        Raises:
            DataError: a file cannot be read or holds no fact; or a line is bad (``file:line: reason``), such
                as a wrong number of columns, an empty field or text that is not UTF-8.
        """
        layout = Layout(
            tuple(columns) if isinstance(columns, Iterable) and not isinstance(columns, str) else ()
        )
        if len(set(layout.columns)) != 3 or not all(map(is_text, layout.columns)):
            raise DataError(f"columns is {columns!r:.200}, expected three names: subject, relation, object")
        check_flag("inverse", inverse)
        source = Source(path, skip_bad, progress=progress, encoding=encoding, sheet=sheet)
        given = read_facts(source, layout, separator=separator, wide=wide, subject=subject, language=language)
        facts, repeated = distinct_facts(given.rows, source)
        ranked_names = () if names is None else read_names(source.sibling(names), separator, language)
        return cls._build(facts, chain(given.names, ranked_names), inverse, source, repeated)

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
            triples: the facts, in any order; messages number them from 1.
            names: names by entity id; the first one is shown.
            inverse: also add the inverse of every fact.

        Raises:
            DataError: there is no fact, or one is not three texts, none of them blank; or an entity's names
                are not a list of texts.
        """
        check_flag("inverse", inverse)
        source = Source("triples")
        facts, repeated = distinct_facts(checked_triples(triples, source), source)
        return cls._build(facts, checked_names(names or {}), inverse, source, repeated)

    @classmethod
    def _build(
        cls,
        facts: NumberedFacts,
        ranked_names: Iterable[RankedName],
        inverse: bool,
        source: Source,
        repeated: Skipped,
    ) -> FactTable:
        labels = Labels(facts.relations)
        names = collect_names(
            labels.noted(ranked_names), facts.entities
        )  # reads the file, and counts bad lines
        facts = labels.applied(facts)
        facts = with_inverse(facts) if inverse else facts
        return cls.of(facts, names, source.skipped, repeated, source.notes)

    @classmethod
    def of(
        cls,
        facts: NumberedFacts,
        names: Names,
        skipped: Skipped = NONE_SKIPPED,
        repeated: Skipped = NONE_SKIPPED,
        notes: Sequence[str] = (),
    ) -> FactTable:
        """Make a table of facts in canonical order."""
        entities = pa.array(facts.entities, pa.large_string())
        subject, relation, object_ = map(frozen, (facts.subject, facts.relation, facts.object))
        return cls(
            entities, facts.relations, subject, relation, object_, names, skipped, repeated, tuple(notes)
        )

    def __repr__(self) -> str:
        """The size of the table."""
        sizes = f"{len(self):,} facts, {self.num_entities:,} entities, {len(self.relations):,} relations"
        return f"FactTable({sizes})"

    def __len__(self) -> int:
        """Number of facts, N."""
        return len(self.subject)

    @property
    def num_cells(self) -> int:
        """Number of cells: of facts, and of facts that were removed from a table that changes."""
        return len(self.subject)

    @property
    def num_entities(self) -> int:
        """Number of entities, E."""
        return len(self.entities)

    def fact(self, cell: int) -> Fact:
        """The fact of a cell (0 to N - 1), by id and in words.

        Raises:
            IndexError: there is no such cell.
            DataError: it is not a whole number.
        """
        if not _is_whole(cell):
            raise DataError(f"cell is {cell!r:.80}, expected a whole number from 0 to {self.num_cells - 1}")
        if not 0 <= cell < self.num_cells:
            raise IndexError(f"there is no cell {cell}, expected cells from 0 to {self.num_cells - 1}")
        return self.facts(np.array([cell]))[0]

    def facts(self, cells: NDArray[np.int64]) -> list[Fact]:
        """The facts of cells ``(n,)``, by id and in words."""
        subject, relation, object_ = (
            column[cells].tolist() for column in (self.subject, self.relation, self.object)
        )
        entities = {*subject, *object_}
        ids = {number: self.entity_id(number) for number in entities}
        names = {number: self.names_of(number)[0] for number in entities}
        said = {number: self.relation_text(number) for number in set(relation)}
        return [
            Fact(ids[s], self.relations[r], ids[o], names[s], said[r], names[o])
            for s, r, o in zip(subject, relation, object_, strict=True)
        ]

    def entity_id(self, entity: int) -> str:
        """The id of an entity."""
        return str(self.entities[entity].as_py())

    def own_names(self, entity: int) -> list[str]:
        """The names of an entity, perhaps none; ``names_of`` gives its id then."""
        return self.names.of(entity)

    def names_of(self, entity: int) -> list[str]:
        """All names of an entity, the one to show first; without a name, its id, in words where possible."""
        return self._by_name.names_of(entity)

    def relation_text(self, relation: int) -> str:
        """A relation in words, ``people person place of birth``; an inverse begins with ``inverse of``.

        ``hmn.facts.ids.relation_parts(facts.relations[relation])`` gives domain, type and property apart.
        """
        return relation_text(self.relations[relation])

    @cached_property
    def pair(self) -> NDArray[np.int64]:
        """``(N,)`` the number of each cell's (subject, relation) pair, from 0, in the order of rows."""
        return self._by_id.pair

    @cached_property
    def pair_start(self) -> NDArray[np.int64]:
        """``(P + 1,)`` the cells of pair ``p`` are ``pair_start[p]`` to ``pair_start[p + 1] - 1``."""
        return self._by_id.pair_start

    def cells_of_pair(self, pair: int) -> NDArray[np.int64]:
        """Cells of a (subject, relation) pair, ascending."""
        return np.arange(self.pair_start[pair], self.pair_start[pair + 1])

    def cells_of_pairs(self, pairs: NDArray[np.int64]) -> Ragged:
        """Cells of several pairs, one row for each."""
        return Ragged(*spans(self.pair_start[pairs], self.pair_start[pairs + 1]))

    def pairs_of(self, entities: NDArray[np.int64]) -> Ragged:
        """Pairs that have each of some entities as their subject, one row for each; perhaps empty."""
        return self._by_id.pairs_of(entities)

    @property
    def cells_by_object(self) -> Ragged:
        """Cells by their objects: one row per entity, ascending; perhaps empty."""
        return self._by_id.cells_by_object

    def holds(self, cells: NDArray[np.int64]) -> bool:
        """Whether there is a fact in each of some cells, which are not negative."""
        return not len(cells) or int(cells.max()) < self.num_cells

    def in_order(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers that sort pairs by the ids of their subjects, then of their relations."""
        return pairs

    def entities_in_order(self, entities: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers that sort entities by their ids."""
        return entities

    def cells_with_object(self, entity: int) -> NDArray[np.int64]:
        """Cells whose object is an entity, ascending; perhaps none."""
        return self._by_id.cells_with_object(entity)

    def entity_number(self, entity: str) -> int:
        """The number of an entity by its id, in any of Freebase's spellings; -1 if it is not in the table."""
        return self._by_id.entity_number(entity)

    def cell_of(self, subject: str, relation: str, object: str) -> int:
        """The cell of a fact by its ids, in any of Freebase's spellings; -1 if it is not in the table."""
        return self._by_id.cell_of(subject, relation, object)

    def pair_of_numbers(self, subject: int, relation: int) -> int:
        """The pair of a subject's number and a relation's; -1 if there is none."""
        return self._by_id.pair_of_numbers(subject, relation)

    def cell_of_numbers(self, subject: int, relation: int, object: int) -> int:
        """The cell of a fact by its three numbers; -1 if it is not in the table."""
        return self._by_id.cell_of_numbers(subject, relation, object)

    def cells_of(
        self, subjects: Sequence[str], relations: Sequence[str], objects: Sequence[str]
    ) -> NDArray[np.int64]:
        """The cells ``(len(subjects),)`` of many facts by their ids; -1 for facts that are not there."""
        return self._by_id.cells_of(subjects, relations, objects)

    def find_entities(self, text: str) -> NDArray[np.int32]:
        """Entities, ascending, that have ``text`` as their id or name; names ignore case and spacing."""
        by_id = {self.entity_number(text)} - {-1}
        return np.array(sorted(by_id | self._by_name.entities_named(text)), np.int32)

    @cached_property
    def _by_id(self) -> FactLookup:
        return FactLookup(self.entities, self.relations, self.subject, self.relation, self.object)

    @cached_property
    def _by_name(self) -> NameLookup:
        return NameLookup(self.entities, self.names)

    def write(self, folder: Path | str) -> None:
        """Write ``facts.parquet`` and ``names.parquet``; the same table gives the same bytes.

        Raises:
            DataError: the folder does not exist and cannot be made.
        """
        try:
            folder = Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, TypeError, ValueError) as error:
            raise DataError(
                f"{folder}: no such folder, nor can it be made ({error}): choose another"
            ) from None
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
    def load(cls, folder: Path | str) -> FactTable:
        """Read what ``write`` wrote.

        Raises:
            DataError: a file is missing or damaged, or was not written by ``write``.
        """
        if not isinstance(folder, (str, Path)):
            raise DataError(f"folder is {folder!r:.80}, expected the path of a folder as text or Path")
        folder = Path(folder)
        columns = _columns(folder / FACTS_FILE, FACT)
        written = in_order(*columns)
        if written is None:
            facts, repeated = canonical(from_columns(*columns))
            if len(repeated):
                raise DataError(
                    f"{folder / FACTS_FILE}: it repeats facts, so FactTable.write did not write it: "
                    "save it again"
                )
            written = (pa.array(facts.entities, pa.large_string()), *facts[1:])
        entities, relations, subject, relation, object_ = written
        owned, text = _columns(folder / NAMES_FILE, NAME)
        names = saved_names(folder / NAMES_FILE, owned, text, entities)
        return cls(entities, relations, frozen(subject), frozen(relation), frozen(object_), names)


def _is_whole(value: object) -> bool:
    """Whether a value is a whole number, one of NumPy included."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def _columns(path: Path, layout: Layout) -> list[pa.ChunkedArray]:
    """Read columns of text, dictionary-encoded, from a Parquet file that ``write`` wrote."""
    columns = read_text_columns(path, layout, "save the table again", plain=NAME.columns[1:])
    if not len(columns[0]) and layout == FACT:
        raise DataError(f"{path}: it holds no fact: save the table again")
    return columns
