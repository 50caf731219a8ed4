"""Facts of a wide table: one for each value in a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hmn.facts.files.headers import plain
from hmn.facts.files.layout import Row, no_rows, wrong_width
from hmn.facts.files.source import Source
from hmn.facts.ids import INVERSE, one_form, readable_id
from hmn.facts.wide.cells import MISSING, Cell, Column, is_empty
from hmn.facts.wide.recognition import subject_column

LABEL = "Label"
"""Ending of the name of a column of labels, as Wikidata's query service has it."""
WideRow = tuple[int, list[Cell]]
"""A line number, from 1, and the cells on that line."""


class WideTable(NamedTuple):
    """A table of which each row is an entity.

    Attributes:
        header: the names of the columns.
        rows: the rows below.
    """

    header: list[str]
    rows: Iterator[WideRow]


def wide_facts(
    source: Source, table: WideTable, subject: str | None, *, is_sure: bool
) -> tuple[list[Row], list[tuple[str, int, str]]]:
    """Make facts (entity, name of a column, value) of a wide table; also gives names as ``(id, rank, name)``.

    Rows with one name stay entities of their own, unless all their cells are the same. A value that is the
    name of one row is that entity.

    Args:
        source: the file.
        table: its columns.
        subject: the name of the column that names the entities, if it is given.
        is_sure: the user said that the table is wide.

    Raises:
        DataError: there is no row, or no such column; or a row is bad, and bad rows are not skipped.
    """
    table, rows = _labels_for_ids(table, list(_even(source, table)))
    if not rows:
        raise no_rows(source)
    if subject is not None and subject not in table.header:
        subject = subject.removesuffix(LABEL)
    texts = [[cell if isinstance(cell, str) else "|".join(cell) for cell in cells] for _, cells in rows]
    place = subject_column(table.header, texts, subject, str(source.path))
    name_of = table.header[place].strip()
    kept = []
    for line, cells in rows:
        name = cells[place]
        if not isinstance(name, str) or name.strip().casefold() in MISSING - {"none", "nan", "null", "na"}:
            source.bad(line, f"empty field: {name_of}, which names the entity")
        else:
            kept.append((line, " ".join(name.split()), cells))
    ids, shared = _ids(kept)
    names = {(entity, 0, name) for entity, (_, name, _) in zip(ids, kept, strict=True) if entity != name}
    facts = []
    for number, column in enumerate(table.header):
        relation = " ".join(one_form(column).split()).lstrip(INVERSE)
        if number == place or not plain(relation):
            continue
        reader = Column(cells[number] for _, _, cells in kept)
        for entity, (line, _, cells) in zip(ids, kept, strict=True):
            facts += [(line, [entity, relation, value]) for value in reader.values(cells[number])]
    written = {text for _, (entity, _, value) in facts for text in (entity, value)}
    names |= {
        (text, 0, text) for text in written - {each for each, _, _ in names} if readable_id(text) != text
    }
    source.note(_note(source, table.header, len(rows), name_of, shared, is_sure))
    return facts, sorted(names)


def _labels_for_ids(table: WideTable, rows: Sequence[WideRow]) -> tuple[WideTable, list[WideRow]]:
    """Put labels in place of ids where a table has both, as ``item`` and ``itemLabel`` of Wikidata."""
    labels = {name for name in table.header if len(name) > len(LABEL) and name.endswith(LABEL)}
    ids = {name.removesuffix(LABEL) for name in labels} & set(table.header)
    if len(labels) < 2 and not ids:
        return table, list(rows)
    kept = [place for place, name in enumerate(table.header) if name not in ids]
    header = [name.removesuffix(LABEL) if name in labels else name for name in table.header]
    return (
        table._replace(header=[header[place] for place in kept]),
        [(line, [cells[place] for place in kept]) for line, cells in rows],
    )


def _even(source: Source, table: WideTable) -> Iterator[WideRow]:
    """The rows that have all columns, in one form of Unicode; those without any value are left out."""
    width = len(table.header)
    for line, cells in table.rows:
        if is_empty(cells):
            continue
        if len(cells) == width:
            yield line, list(map(_formed, cells))
        else:
            source.bad(line, wrong_width(len(cells), f"{width} (as in the header)", ""))


def _formed(cell: Cell) -> Cell:
    return one_form(cell) if isinstance(cell, str) else list(map(one_form, cell))


def _ids(rows: Sequence[tuple[int, str, list[Cell]]]) -> tuple[list[str], list[str]]:
    """An id for each row: its name, and its line where other rows have this name; also gives these names."""
    distinct: dict[str, list[list[Cell]]] = {}
    for _, name, cells in rows:
        others = distinct.setdefault(name, [])
        if cells not in others:
            others.append(cells)
    count = Counter({name: len(others) for name, others in distinct.items()})
    first: dict[tuple[str, int], int] = {}
    ids = []
    for line, name, cells in rows:
        if count[name] == 1:
            ids.append(name)
        else:
            line = first.setdefault((name, distinct[name].index(cells)), line)
            ids.append(f"{name} (line {line})")
    return ids, sorted(name for name, times in count.items() if times > 1)


def _note(
    source: Source, header: Sequence[str], rows: int, name_of: str, shared: Sequence[str], is_sure: bool
) -> str:
    """Say how the table was read."""
    text = (
        f"{source.path}: {rows:,} rows of {len(header)} columns, read as a wide table: "
        f"each row an entity named by {name_of!r}"
    )
    if shared:
        more = f" and {len(shared) - 1:,} more names stand" if len(shared) > 1 else " stands"
        text += f"; {shared[0]!r}{more} for several rows, which stay apart"
    if any(not plain(name) for name in header if name.strip() != name_of):
        text += "; a column without a name is left out"
    return text if is_sure else f"{text} (--subject names another column, --no-wide reads rows of facts)"
