"""Write the tree of the package, a line per file, into a page: ``python -m scripts.tree CONTRIBUTING.md``.

A line is the file's name and the first sentence of its docstring. The tree stands between the marks
``<!-- tree -->`` and ``<!-- end of tree -->``; the rest of the page stays. With ``--check`` nothing
is written, and the exit status is 1 if the page is out of date.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "hmn"

BEGIN = "<!-- tree -->"
"""Mark before the tree."""

END = "<!-- end of tree -->"
"""Mark after the tree."""

INDENT = 2
"""Spaces per level of folders."""


def tree(package: Path) -> str:
    """The tree of a package as a code block of Markdown."""
    lines = [(f"{package.name}/", first_sentence(package / "__init__.py")), *_inside(package, 1)]
    width = max(len(name) for name, _ in lines)
    return "\n".join(["```", *(f"{name:<{width}}  {line}" for name, line in lines), "```"])


def _inside(folder: Path, depth: int) -> Iterator[tuple[str, str]]:
    """Names and sentences of the files of a folder, then of its folders."""
    indent = " " * INDENT * depth
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield f"{indent}{file.name}", first_sentence(file)
    for child in sorted(child for child in folder.iterdir() if (child / "__init__.py").exists()):
        yield f"{indent}{child.name}/", first_sentence(child / "__init__.py")
        yield from _inside(child, depth + 1)


def first_sentence(file: Path) -> str:
    """The first sentence of a file's docstring, without its full stop; empty if it has none."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=\w)\. (?=[A-Z])", paragraph)[0].rstrip(".").replace("``", "")


def written(page: str, block: str) -> str:
    """The page with a block between the marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no tree, expected the marks {BEGIN} and {END}: write them into it")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the tree; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if out of date")
    options = parser.parse_args(arguments)
    page = options.page.read_text(encoding="utf-8")
    current = written(page, tree(PACKAGE))
    if options.check:
        if page == current:
            return 0
        print(f"{options.page}: its tree is out of date: python -m scripts.tree {options.page}")
        return 1
    options.page.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
