"""Rows of named columns from a file of any known format.

We read text ourselves, instead of with a table library, so that messages can give the line number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from hmn.errors import DataError
from hmn.facts.files.delimited import pick_columns, read_delimited
from hmn.facts.files.excel import SUFFIXES as SHEETS
from hmn.facts.files.excel import read_sheet
from hmn.facts.files.json_lines import read_json_lines
from hmn.facts.files.layout import Layout, Rows
from hmn.facts.files.parquet import read_parquet
from hmn.facts.files.separators import QUOTED, check_separator, separator_of
from hmn.facts.files.source import Source

Format = Literal["parquet", "json", "excel", "rdf", "text"]
"""Name of a format."""

_USUAL = {".tsv": "\t", ".tab": "\t", ".csv": ",", ".psv": "|"}
"""Separator that a suffix stands for; the first lines may show another."""
_TEXT = {*_USUAL, ".txt"}
"""Suffixes of text with a separator between the columns."""
_JSON = {".jsonl", ".ndjson", ".json"}
"""Suffixes of JSON lines."""
_RDF = {".nt", ".nq", ".ttl", ".n3", ".trig", ".rdf", ".owl", ".xml", ".jsonld"}
"""Suffixes of RDF."""
_RDF_START = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml|<rdf:RDF|@prefix\s|@base\s|prefix\s+\w*:\s*<|base\s+<"
    rb"|<\w+:[^<>\s]*>\s+(a|<\w+:[^<>\s]*>)\s+(<\w+:[^<>\s]*>|_:\w+|\"[^\n]*\")[^\n]*[.;,]\s*(\n|$))",
    re.IGNORECASE,
)
"""Pattern of the beginning of RDF in a file without a known suffix."""
_PACKED = {".gz", ".zst", ".bz2", ".xz"}
"""Suffixes of packed files."""
_FOREIGN = {
    b"PK\x03\x04": "a zip archive, expected a table: unpack it, or name a spreadsheet .xlsx",
    b"\x7fELF": "a program, expected a table: check the path",
    b"<!DOCTYPE html": "a web page, expected a table: get the table that the page shows or links",
    b"<!doctype html": "a web page, expected a table: get the table that the page shows or links",
    b"<html": "a web page, expected a table: get the table that the page shows or links",
    b"%PDF": "a PDF, expected a table: export the table as CSV",
    b"SQLite format 3\0": "an SQLite database, expected a table: export the table as CSV",
}
"""Kinds of files that are no tables, and what to do with them, by their first bytes."""
_TAR = slice(257, 262), b"ustar"
"""Place of the mark of a tar archive, and the mark."""


def read_rows(
    source: Source, layouts: Sequence[Layout], *, separator: str | None = None, header: bool = False
) -> Rows:
    """Read the wanted columns of a file in any known format.

    The suffix decides the format (``.tsv .csv .psv .txt .jsonl .ndjson .json .parquet .xlsx .xls .ods``,
    optionally followed by ``.gz``, ``.zst``, ``.bz2`` or ``.xz``), or else the first bytes do. Any other file
    is text. What separates its columns is seen in its first lines; see ``hmn.facts.files.separators``.

    A text file and a sheet may have a header; see ``hmn.facts.files.delimited.read_delimited``. JSON and
    Parquet always go by names.

    Args:
        source: the file.
        layouts: alternative lists of columns, each of a different length.
        separator: the text between columns, for text files that have it.
        header: a text file must have a header.

    Raises:
        DataError: the file cannot be read, is empty or lacks the columns; or a row is bad, and bad rows are
            not skipped.
    """
    separator = check_separator(separator)
    file_format = format_of(source)
    if file_format == "parquet":
        return read_parquet(source, layouts)
    if file_format == "json" and (separator is None or suffix_of(source) in _JSON):
        return read_json_lines(source, layouts)
    if file_format == "rdf":
        expected = " or ".join(map(str, layouts))
        raise DataError(
            f"{source.path}: it is RDF, expected a table with the columns {expected}: export it as TSV"
        )
    if file_format == "excel":
        rows = read_sheet(source, layouts)
        return pick_columns(source, iter(rows), [cells for _, cells in rows], layouts, "", header)
    found = recognised(source, layouts, separator)
    return read_delimited(source, layouts, found, quotes=has_quotes(source, found), header=header)


def recognised(source: Source, layouts: Sequence[Layout], given: str | None) -> str:
    """The separator of a text file; ``given`` is the user's, if the file has it."""
    usual = _USUAL.get(suffix_of(source))
    return separator_of(source, layouts, usual=usual, given=given, quotes=has_quotes(source, ""))


def has_quotes(source: Source, separator: str) -> bool:
    """Whether the cells of a text file may be in quotes."""
    return suffix_of(source) == ".csv" or separator in QUOTED


def suffix_of(source: Source) -> str:
    """The suffix that names the format, before that of a compression."""
    suffixes = [suffix.lower() for suffix in source.path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def format_of(source: Source) -> Format:
    """Recognise a format by the suffix, else by the first bytes.

    Raises:
        DataError: the file cannot be read, or is of a kind that is no table.
    """
    suffix, start = suffix_of(source), source.start
    if start.startswith(b"PAR1") or suffix == ".parquet":
        return "parquet"
    if suffix in SHEETS:
        return "excel"
    if suffix in _RDF or (suffix not in _TEXT | _JSON and _RDF_START.match(start)):
        return "rdf"
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise DataError(f"{source.path}: it is {what}")
    if start[_TAR[0]] == _TAR[1]:
        raise DataError(f"{source.path}: it is a tar archive, expected a table: unpack it")
    if suffix in _JSON or (suffix not in _TEXT and re.match(rb"(\xef\xbb\xbf)?\s*\{", start)):
        return "json"
    return "text"
