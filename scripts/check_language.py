"""Report what a machine can see of the style sheet in CONTRIBUTING.md.

``python -m scripts.check_language [PATH ...]`` reads the prose and the names of Python files and the prose of
Markdown files; without paths, those of the whole repository. Each finding is a line ``file:line: what; write
what instead``. The exit status is 1 if there is one.

``--summary`` counts findings per folder. ``--long`` lists sentences of over 40 words; they are no errors.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.prose import Prose, prose_of

ROOT = Path(__file__).parents[1]

PLACES = (
    "src/**/*.py",
    "src/**/*.md",
    "tests/**/*.py",
    "bench/**/*.py",
    "scripts/**/*.py",
    "docs/*.md",
    "*.md",
)
"""Patterns of the files that are checked; docs/paper and bench/results are written by programs."""

NOT_CHECKED = ("scripts/check_language.py", "tests/scripts/test_check_language.py")
"""Files that quote what is not to be written."""

LONGEST = 40
"""Words of the longest sentence that ``--long`` does not list."""

COUNTED = (
    "batches|bytes|calls|cells|clusters|cores|facts|GB|GiB|groups|keys|KiB|leaves|lines|MB|MiB|microseconds|"
    "milliseconds|minutes|ms|names|ns|phrasings|probes|queries|questions|reads?|relations|rows|searches|seconds|"
    "steps?|threads|tokens|us|vectors|words"
)
"""Nouns that are counted per something."""

PER = (
    "batch|call|cell|cluster|core|day|epoch|fact|group|key|leaf|line|machine|minute|month|name|process|query|"
    "question|relation|row|second|step|subject|table|thread|tier|worker"
)
"""Nouns that they are counted per."""

VAGUE_START = re.compile(r"(as many|as much|of|so|that|times|what|where|which) ", re.IGNORECASE)
"""Words that a constant's docstring does not begin with."""

CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*$")
"""Names of constants."""


@dataclass(frozen=True)
class Rule:
    """A pattern of prose that is not written, and what is written instead."""

    pattern: re.Pattern[str]
    instead: str
    r"""Template of ``re.Match.expand``: ``\1`` is the pattern's first group."""


RULES = tuple(
    Rule(re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in {
        r"\bso (many|much as)\b": "the quantity itself: N, k, the number of cells",
        r"\btold\b": "'reported', 'given', or what happens",
        r"\btells\b": "'reports', 'says' or 'gives'",
        r"\bas yet\b": "'yet', or nothing",
        r"\banew\b": "'again' or 'from the start'",
        rf"(\b(?:{COUNTED})|\{{\}}) an? ({PER})\b": r"'\1 per \2'",
        r"\bnumbers that are none\b": "'NaN and infinity'",
    }.items()
)
"""Rules for all prose."""


@dataclass(frozen=True, order=True)
class Finding:
    """One line of the report."""

    path: str
    line: int
    what: str
    instead: str

    def __str__(self) -> str:
        """The line, in the form that editors follow."""
        return f"{self.path}:{self.line}: {self.what}; write {self.instead}"


def findings(path: str, text: str) -> list[Finding]:
    """All that the rules say of a file; ``path`` is relative to the repository."""
    found = [finding for prose in prose_of(Path(path), text) for finding in _in_prose(path, text, prose)]
    if path.endswith(".py"):
        tree = ast.parse(text)
        found += _in_names(path, tree)
        if path.startswith("src/"):
            found += _in_constants(path, tree)
    return sorted(set(found))


def _in_prose(path: str, text: str, prose: Prose) -> Iterator[Finding]:
    for rule in RULES:
        for match in rule.pattern.finditer(prose.text):
            yield Finding(
                path, _line_of(match.group(), text, prose), f'"{match.group()}"', match.expand(rule.instead)
            )
    if prose.kind == "field" and (start := VAGUE_START.match(prose.text)):
        what = f'a docstring that begins with "{start.group().strip()}"'
        yield Finding(path, prose.first, what, "a noun first: 'Size of ...'")


def _line_of(phrase: str, text: str, prose: Prose) -> int:
    """The line on which a phrase begins; it may go on in the next."""
    lines = [" ".join(line.split()) for line in text.splitlines()[prose.first - 1 : prose.last]]
    words = phrase.split()
    for count in range(len(words), 0, -1):
        for number, line in enumerate(lines, prose.first):
            if " ".join(words[:count]) in line:
                return number
    return prose.first


def _in_names(path: str, tree: ast.Module) -> Iterator[Finding]:
    """Names made with the word ``told``, where they are given."""
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = node.name
        if {"told", "tells"} & set(name.lower().split("_")):
            instead = "'on_progress' or 'log' for a callback, else a noun"
            yield Finding(path, node.lineno, f"the name {name}", instead)  # type: ignore[attr-defined]


def _in_constants(path: str, tree: ast.Module) -> Iterator[Finding]:
    """Constants of a module that have no docstring, or that share a line with another."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        constants = [name for name in names if CONSTANT.match(name)]
        if len(constants) > 1:
            yield Finding(path, node.lineno, ", ".join(constants) + " on one line", "a line for each")
        elif constants and not _is_string(after):
            instead = "one below it: a noun, and the unit"
            yield Finding(path, node.lineno, f"{constants[0]} has no docstring", instead)


def _is_string(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def long_sentences(path: str, text: str) -> Iterator[str]:
    """Lines that list sentences of more than ``LONGEST`` words, longest paragraph or not."""
    for prose in prose_of(Path(path), text):
        if prose.text.startswith("|"):
            continue
        for sentence in re.split(r"(?<=[.!?:;]) ", prose.text):
            if (count := len(sentence.split())) > LONGEST:
                yield f"{path}:{prose.first}: a sentence of {count} words: {sentence[:60]}..."


def files(given: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Path, relative to the repository, and text of each file to check."""
    paths = {path.resolve() for path in given} or {path for place in PLACES for path in ROOT.glob(place)}
    checked = {path for place in PLACES for path in ROOT.glob(place)}
    for path in sorted(paths & checked):
        relative = path.relative_to(ROOT).as_posix()
        if relative not in NOT_CHECKED:
            yield relative, path.read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check files and print the findings; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="files; all of the repository without them")
    parser.add_argument("--summary", action="store_true", help="count findings per folder")
    parser.add_argument("--long", action="store_true", help="list long sentences instead; exit status 0")
    options = parser.parse_args(arguments)
    if options.long:
        for path, text in files(options.paths):
            for line in long_sentences(path, text):
                print(line)
        return 0
    found = [finding for path, text in files(options.paths) for finding in findings(path, text)]
    if options.summary:
        for folder, count in sorted(Counter(str(Path(finding.path).parent) for finding in found).items()):
            print(f"{count:5} {folder}")
    else:
        print(*found, sep="\n" if found else "", end="\n" if found else "")
    if found:
        print(f"{len(found)} findings; the style sheet is in CONTRIBUTING.md")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
