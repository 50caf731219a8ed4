"""The prose of a file: docstrings, comments and messages of Python, paragraphs of Markdown; no code."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["docstring", "field", "comment", "message", "page"]
"""Source of a piece of prose; ``field`` is a docstring below a constant or a field of a class."""

CODE = "CODE"
"""Word that stands in prose for a piece of code."""

HOLE = "{}"
"""Placeholder of a value that a message is filled in with."""

BEGINS_A_PARAGRAPH = re.compile(r"[-*|#] ?|\d+\. |(Args|Returns|Raises|Yields):$|\w+: ")
"""Beginnings of a list item, a row of a table, a heading, or a section or argument of a docstring."""


@dataclass(frozen=True)
class Prose:
    """A paragraph, with white space made single spaces, and the lines of the file that it comes from."""

    kind: Kind
    text: str
    first: int
    last: int


def prose_of(path: Path, text: str) -> Iterator[Prose]:
    """All prose of a Markdown or Python file."""
    if path.suffix == ".py":
        yield from docstrings_and_messages(ast.parse(text))
        yield from comments(text)
    else:
        yield from paragraphs("page", text, 1)


def docstrings_and_messages(tree: ast.Module) -> Iterator[Prose]:
    """Docstrings in paragraphs, and each other string of two words or more, f-strings included."""
    docstrings = {id(node.value): _kind_of(before) for before, node in _bare_strings(tree)}
    pieces_of_f_strings = {
        id(piece) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) in docstrings:
            yield from paragraphs(docstrings[id(node)], node.value, node.lineno)
        elif text := _message(node) if id(node) not in pieces_of_f_strings else "":
            assert isinstance(node, ast.expr)
            yield Prose("message", text, node.lineno, node.end_lineno or node.lineno)


def _bare_strings(tree: ast.Module) -> Iterator[tuple[ast.AST | None, ast.Expr]]:
    """Statements that are nothing but a string, each with the statement before it."""
    for parent in ast.walk(tree):
        body = getattr(parent, "body", None)
        if isinstance(body, list):
            for before, node in zip([None, *body], body, strict=False):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    yield before, node


def _kind_of(before: ast.AST | None) -> Kind:
    return "field" if isinstance(before, ast.Assign | ast.AnnAssign) else "docstring"


def _message(node: ast.AST) -> str:
    """The text of a string with at least two words; empty for all else."""
    if isinstance(node, ast.JoinedStr):
        pieces = [piece.value if isinstance(piece, ast.Constant) else HOLE for piece in node.values]
        text = "".join(map(str, pieces))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    else:
        return ""
    words = without_code(text).split()
    return " ".join(words) if len(words) > 1 else ""


def comments(source: str) -> Iterator[Prose]:
    """Comments; those on lines below each other are one."""
    together: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if together and line != together[-1][0] + 1:
            yield _comment(together)
            together = []
        together.append((line, token.string.lstrip("#! ")))
    if together:
        yield _comment(together)


def _comment(lines: list[tuple[int, str]]) -> Prose:
    text = without_code(" ".join(words for _, words in lines))
    return Prose("comment", " ".join(text.split()), lines[0][0], lines[-1][0])


def paragraphs(kind: Kind, text: str, first_line: int) -> Iterator[Prose]:
    """Paragraphs, list items and rows of tables; code blocks are left out."""
    words: list[str] = []
    begin = first_line
    for number, line in enumerate([*without_code(text).splitlines(), ""], first_line):
        bare = line.strip()
        if words and (not bare or BEGINS_A_PARAGRAPH.match(bare)):
            yield Prose(kind, " ".join(words), begin, number - 1)
            words = []
        if bare:
            begin = begin if words else number
            words += bare.split()


def without_code(text: str) -> str:
    """The text with as many lines: code blocks are empty, ``code`` is one word, links lose their address."""
    lines, fenced = text.splitlines(), False
    for number, line in enumerate(lines):
        fence = line.strip().startswith(("```", "~~~"))
        if fence or fenced or line.strip().startswith((">>> ", "... ")):
            lines[number] = ""
        fenced ^= fence
    text = re.sub(
        r"(`+)((?:(?!\n\s*\n)[^`])+)\1", lambda code: CODE + "\n" * code.group().count("\n"), "\n".join(lines)
    )
    return re.sub(r"\]\([^)\s]*\)", "]", text)
