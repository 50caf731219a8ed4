"""The pages of the documentation: their code blocks, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
"""Pages whose code blocks are run."""
LINKED = [
    *PAGES,
    *("CHANGELOG.md", "CONTRIBUTING.md", "docs/paper/report.md"),
    *sorted(f"docs/api/{path.name}" for path in (ROOT / "docs" / "api").glob("*.md")),
    *sorted(f"bench/results/{path.name}" for path in (ROOT / "bench" / "results").glob("*.md")),
]
"""Pages whose links are checked."""

_FENCE = re.compile(r"\s*```(\S*)\s*(.*)")
_MARK = re.compile(r"<!-- not run: (.+) -->")
_HEADING = re.compile(r"#{1,6} (.+)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the page that it is on.
        line: the number of its first line in the page, from 1.
        language: the word behind the fence.
        options: what else stands behind the fence.
        text: the lines within.
        not_run: the reason why it is not run, from a comment above it; empty if there is none.
    """

    page: str
    line: int
    language: str
    options: str
    text: str
    not_run: str

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def title(self) -> str:
        """The file that it shows, from ``title="…"``; empty if it shows none."""
        found = re.search(r'title="([^"]+)"', self.options)
        return found[1] if found else ""


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order."""
    lines = (read(page) if text is None else text).splitlines()
    blocks: list[Block] = []
    opened: tuple[int, str, str, str] | None = None
    above = ""
    for number, line in enumerate(lines, 1):
        fence = _FENCE.fullmatch(line)
        if opened is None and fence:
            mark = _MARK.fullmatch(above)
            opened = number + 1, fence[1], fence[2], mark[1] if mark else ""
        elif opened is not None and line.strip() == "```":
            first, language, options, reason = opened
            inner = "".join(f"{each}\n" for each in lines[first - 1 : number - 1])
            blocks.append(Block(page, first, language, options, inner, reason))
            opened = None
        above = line.strip() or above
    assert opened is None, f"{page}: the block at line {opened and opened[0]} is never closed"
    return blocks


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a block of shell lines, each with the output that is shown below it."""
    if block.language == "sh":
        text = re.sub(r"\\\n\s*", "", block.text)  # lines that go on
        return [(line.split("  #")[0].strip(), "") for line in text.splitlines() if line.strip()]
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), ""))
        else:
            assert found, f"{block.place}: output without a command, expected '$ ' first"
            found[-1] = found[-1][0], found[-1][1] + line
    return found


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {slug(line[1]) for line in map(_HEADING.fullmatch, text.splitlines()) if line}


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    words = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
    return re.sub(r"[\s]+", "-", words)


def links(page: str) -> list[str]:
    """Where a page's links and images point to, those in code blocks left out."""
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    return _LINK.findall(text)


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")
