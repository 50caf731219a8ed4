"""Facts as a file gives them: rows of three columns, a wide table, or RDF."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hmn.errors import DataError
from hmn.facts.files.formats import format_of, read_rows
from hmn.facts.files.layout import Layout, Row
from hmn.facts.files.separators import check_separator
from hmn.facts.files.source import Source
from hmn.facts.given.wide import wide_table
from hmn.facts.names import RankedName
from hmn.facts.numbering import FACT
from hmn.facts.rdf.graph import read_graph
from hmn.facts.wide.facts import wide_facts


class GivenFacts(NamedTuple):
    """What a file of facts holds.

    Attributes:
        rows: line number, and ids of subject, relation and object.
        names: names of entities that the file gives as well.
    """

    rows: Iterable[Row]
    names: list[RankedName]


def read_facts(
    source: Source,
    layout: Layout,
    *,
    separator: str | None,
    wide: bool | None,
    subject: str | None,
    language: str | None,
) -> GivenFacts:
    """Read the facts of a file.

    Args:
        source: the file.
        layout: its names for the columns of facts.
        separator: the text between columns, if the file has it.
        wide: whether each row is an entity and each column a relation; None if that is to be recognised.
        subject: the column of a wide table that names the entities; with it, the table is wide.
        language: the language of names and values in RDF.

    Raises:
        DataError: the file cannot be read, or the settings do not fit together.
    """
    if wide not in (None, True, False):
        raise DataError(f"wide is {wide!r:.80}, expected True, False or None")
    if subject is not None and wide is False:
        raise DataError(
            f"subject is {subject!r:.80} but wide is False: give one of them (--subject, --no-wide)"
        )
    wide = True if subject is not None else wide
    if wide and layout != FACT:
        raise DataError(f"columns are {layout}, but a wide table has none of them: leave columns or wide out")
    if format_of(source) == "rdf":
        return GivenFacts(*read_graph(source, language))
    table = None
    if layout == FACT:
        table = wide_table(source, layout, check_separator(separator), wide)
    if table is None:
        return GivenFacts(read_rows(source, [layout], separator=separator, header=layout != FACT).rows, [])
    return GivenFacts(*wide_facts(source, table, subject, is_sure=bool(wide)))
