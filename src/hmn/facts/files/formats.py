"""Rows of named columns from a file: TSV, CSV, another separator, JSON lines or Parquet; plain, gz or zst.

We read text ourselves, instead of with a table library, so that messages can give the line number.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Literal

from hmn.errors import DataError
from hmn.facts.files.delimited import LIST_MARK, read_delimited
from hmn.facts.files.json_lines import read_json_lines
from hmn.facts.files.layout import Layout, Rows, layout_by_header, layout_by_width
from hmn.facts.files.lines import open_bytes
from hmn.facts.files.parquet import read_parquet
from hmn.facts.files.source import Source

_SEPARATORS = {".tsv": "\t", ".tab": "\t", ".csv": ",", ".psv": "|"}
"""Separator of a text file, by its suffix. That of other files is recognised."""
_TEXT = {*_SEPARATORS, ".txt"}
"""Suffixes of text with a separator between the columns."""
_JSON = {".jsonl", ".ndjson", ".json"}
"""Suffixes of JSON lines."""
_COMPRESSED = {".gz", ".zst"}
"""Suffixes of compressed files."""
_FIRST_BYTES = 4096
"""Number of bytes by which a file without a known suffix is recognised."""
_FIRST_LINES = 16
"""Number of lines by which a separator is recognised."""


def read_rows(
    source: Source, layouts: Sequence[Layout], *, separator: str | None = None, header: bool = False
) -> Rows:
    """Read the wanted columns of a file in any known format.

    The suffix decides the format (``.tsv .csv .psv .jsonl .ndjson .json .parquet``, optionally followed by
    ``.gz`` or ``.zst``), or else the first bytes do. Any other file, such as ``.txt``, is text separated by
    tabs; or by ``|``, if its first lines have no tab and ``|`` splits one of them into the wanted columns.

    A text file may have a header; see ``hmn.facts.files.delimited.read_delimited``. JSON and Parquet always
    go by names.

    Args:
        source: the file.
        layouts: alternative lists of columns, each of a different length.
        separator: the one character between columns; with it, the file is read as text.
        header: a text file must have a header.

    Raises:
        DataError: the file cannot be read, is empty or lacks the columns; or a row is bad, and bad rows are
            not skipped.
    """
    if separator is not None and (not isinstance(separator, str) or len(separator) != 1):
        raise DataError(f"separator is {separator!r}, expected one character: write a tab as a real tab")
    file_format = _format(source) if separator is None else "text"
    if file_format == "parquet":
        return read_parquet(source, layouts)
    if file_format == "json":
        return read_json_lines(source, layouts)
    separator = separator or _SEPARATORS.get(_suffix(source)) or _separator(source, layouts)
    quotes = separator == "," or _suffix(source) == ".csv"
    return read_delimited(source, layouts, separator, quotes=quotes, header=header)


def is_unquoted_text(source: Source) -> bool:
    """Whether a file is plain lines of text, without the quotes of CSV.

    Raises:
        DataError: the file cannot be read.
    """
    return _format(source) == "text" and _suffix(source) != ".csv"


def _suffix(source: Source) -> str:
    """The suffix that names the format, before that of a compression."""
    suffixes = [suffix.lower() for suffix in source.path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _format(source: Source) -> Literal["parquet", "json", "text"]:
    """Recognise a format by the suffix, else by the first bytes."""
    with open_bytes(source.path) as read:
        start = read(_FIRST_BYTES)
    suffix = _suffix(source)
    if start.startswith(b"PAR1") or suffix == ".parquet":
        return "parquet"
    if suffix in _JSON or (suffix not in _TEXT and start.lstrip().startswith(b"{")):
        return "json"
    return "text"


def _separator(source: Source, layouts: Sequence[Layout]) -> str:
    """Recognise the character between columns by the first lines; the tab if they do not say."""
    lines = [line for _, line in islice(Source(source.path, skip_bad=True).lines(), _FIRST_LINES)]
    # a tab decides, since answers may have a bar between them
    if not any("\t" in line for line in lines):
        rows = (line.split(LIST_MARK) for line in lines)
        if any(layout_by_width(len(cells), layouts) or layout_by_header(cells, layouts)[0] for cells in rows):
            return LIST_MARK
    return "\t"
