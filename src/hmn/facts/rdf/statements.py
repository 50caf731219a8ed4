"""Statements of RDF files, by pyoxigraph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from hmn.errors import DataError, MissingPackageError
from hmn.facts.files.formats import suffix_of
from hmn.facts.files.raw.encodings import as_utf8, encoding_of
from hmn.facts.files.raw.packed import ReadBytes
from hmn.facts.files.source import Source

if TYPE_CHECKING:
    from pyoxigraph import Quad

BASE = "http://localhost/"
"""Address that relative ones are completed with; it is taken off again."""
BLOCK = 1000
"""Number of lines of N-Triples that are read at a time."""

_BY_SUFFIX = {
    ".nt": "N_TRIPLES",
    ".nq": "N_QUADS",
    ".ttl": "TURTLE",
    ".n3": "TURTLE",
    ".trig": "TRIG",
    ".jsonld": "JSON_LD",
    ".rdf": "RDF_XML",
    ".owl": "RDF_XML",
    ".xml": "RDF_XML",
}
"""Formats, by the names that pyoxigraph gives them."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""First bytes that some editors write before UTF-8; only the parser of XML and JSON takes them off."""
_MADE_UP = re.compile(r"[0-9a-f]{20,32}")
"""Pattern of what the parser calls a node without a label: another text at every reading."""
_OPEN_END = re.compile(rb"[;,]\s*\n")
"""Pattern of the end of a line of Turtle that its statement goes on after."""


class Term(NamedTuple):
    """A subject or an object.

    Attributes:
        text: an address, the name of a blank node, or a value as it is written.
        kind: ``iri``, ``blank`` or ``literal``.
        language: the language of a literal, in lower case; empty if it has none.
    """

    text: str
    kind: str
    language: str = ""


class Statement(NamedTuple):
    """A statement and the line that it is on; its number where statements do not go by lines."""

    line: int
    subject: Term
    predicate: str
    object: Term


def read_statements(source: Source) -> Iterator[Statement]:
    """Read all statements; those about statements are left out.

    Raises:
        MissingPackageError: pyoxigraph is missing.
        DataError: the file cannot be read, or has a bad line and bad lines are not skipped.
    """
    try:
        import pyoxigraph
    except ImportError:
        raise MissingPackageError(
            f"{source.path}: reading RDF needs pyoxigraph: pip install 'hmn[rdf]', or export a table as TSV"
        ) from None
    name = _format(source)
    file_format = getattr(pyoxigraph.RdfFormat, name)
    goes_by_lines = name in {"N_TRIPLES", "N_QUADS"}
    quads = (
        _by_line(source, file_format) if goes_by_lines else enumerate(_whole(source, file_format, name), 1)
    )
    seen: set[tuple[Term, str, Term]] = set()
    nodes = None if goes_by_lines else _Nodes(source.path.name)
    for line, quad in quads:
        subject, object_ = _term(quad.subject, nodes), _term(quad.object, nodes)
        if subject is None or object_ is None:
            continue
        statement = Statement(line, subject, quad.predicate.value, object_)
        if not goes_by_lines:  # where a repeat could not be reported with its line
            if statement[1:] in seen:
                continue
            seen.add(statement[1:])
        yield statement


def _format(source: Source) -> str:
    """Recognise a format by the suffix, else by the first bytes."""
    known = _BY_SUFFIX.get(suffix_of(source))
    if known is not None:
        return known
    start = source.start.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if start.startswith((b"<?xml", b"<rdf:RDF")):
        return "RDF_XML"
    is_turtle = start.startswith((b"@", b"#")) or start[:6].upper() in (b"PREFIX", b"BASE <")
    return "TURTLE" if is_turtle or _OPEN_END.search(start) else "N_QUADS"


def _by_line(source: Source, file_format: Any) -> Iterator[tuple[int, Quad]]:
    """Parse lines of one statement each, in blocks; those of a block with an error one by one."""
    import pyoxigraph

    lines = ((number, line) for number, line in source.lines() if line.strip() and line.lstrip()[0] != "#")
    while block := list(islice(lines, BLOCK)):
        try:
            quads = list(pyoxigraph.parse("\n".join(line for _, line in block), format=file_format))
        except SyntaxError:
            quads = []
        if len(quads) == len(block):
            yield from ((number, quad) for (number, _), quad in zip(block, quads, strict=True))
            continue
        for number, line in block:
            try:
                yield from ((number, quad) for quad in pyoxigraph.parse(line, format=file_format))
            except SyntaxError as error:
                source.bad(number, f"bad RDF ({_reason(error)})")


def _whole(source: Source, file_format: Any, name: str) -> Iterator[Quad]:
    """Parse a file as a whole; the parser goes on after an error where the format lets it."""
    import pyoxigraph

    with _opened(source, name) as reader:
        quads = pyoxigraph.parse(cast("IO[bytes]", reader), format=file_format, base_iri=BASE)
        read, errors = 0, 0
        while True:
            try:
                quad = next(quads, None)
            except SyntaxError as error:
                errors += 1
                if error.lineno is None or errors > read + BLOCK:
                    raise DataError(
                        f"{source.path}: bad RDF after {read:,} statements ({_reason(error)}): correct it"
                    ) from None
                source.bad(error.lineno, f"bad RDF ({_reason(error)})" + _if_not_utf_8(error))
                continue
            if quad is None:
                return
            read += 1
            yield quad


@contextmanager
def _opened(source: Source, name: str) -> Iterator[_Reader]:
    """Open a file for the parser; XML says itself which encoding it has."""
    with source.opened() as read:
        if name == "RDF_XML":
            yield _Reader(read)
        else:
            yield _Reader(as_utf8(read, encoding_of(source.start, source.encoding, source.path), source.path))


class _Reader:
    """A file as pyoxigraph reads it."""

    def __init__(self, read: ReadBytes) -> None:
        self._read, self._left = read, read(1 << 16).removeprefix(_BYTE_ORDER_MARK)

    def read(self, size: int = -1) -> bytes:
        """Read up to a number of bytes."""
        data = self._left or self._read(1 << 16 if size < 0 else size)
        if size >= 0:
            data, self._left = data[:size], data[size:]
        return data


class _Nodes:
    """Numbers the nodes of a file that have no label, so that it gives the same facts at every reading.

    The file's name keeps them apart from those of other files.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._names: dict[str, str] = {}

    def name(self, made_up: str) -> str:
        """The name of a node, by what the parser calls it."""
        return self._names.setdefault(made_up, f"{self._file} {len(self._names) + 1}")


def _term(term: Any, nodes: _Nodes | None) -> Term | None:
    """A subject or an object; None for a statement about a statement.

    Args:
        term: as the parser gives it.
        nodes: names those without a label; None in formats where all have one.
    """
    import pyoxigraph

    if isinstance(term, pyoxigraph.NamedNode):
        return Term(term.value.removeprefix(BASE).lstrip("#") or term.value, "iri")
    if isinstance(term, pyoxigraph.BlankNode):
        has_label = nodes is None or not _MADE_UP.fullmatch(term.value)
        name = term.value if nodes is None or has_label else nodes.name(term.value)
        return Term(f"_:{name}", "blank")
    if isinstance(term, pyoxigraph.Literal):
        return Term(term.value, "literal", (term.language or "").lower())
    return None


def _if_not_utf_8(error: SyntaxError) -> str:
    """What to do if a file has another encoding; empty for other errors."""
    hint = "; if the file has another encoding, give it (--encoding windows-1252, or another)"
    return hint if "UTF-8" in _reason(error) else ""


def _reason(error: SyntaxError) -> str:
    """What the parser says, without the line, which the message has already."""
    text = str(error.args[0] if error.args else error)
    head, _, rest = text.partition(": ")
    return rest if head.startswith("Parser error at line") and rest else text
