"""A report of headings, paragraphs, tables and figures, as Markdown and as one HTML page."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A part of a report: a heading with paragraphs, then a table, its footnotes, or a figure."""

    heading: str
    text: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    """Footnotes below the table."""
    figure: tuple[str, bytes] | None = None
    """File name and PNG."""


def as_markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; figures are files beside it."""
    parts = []
    for number, block in enumerate(blocks):
        parts.append(f"{'##' if number else '#'} {block.heading}")
        parts.extend(block.text)
        if block.head:
            lines = ["| " + " | ".join(block.head) + " |", "|" + "---|" * len(block.head)]
            lines += [
                "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in block.rows
            ]
            parts.append("\n".join(lines))
        parts.extend(block.notes)
        if block.figure is not None:
            parts.append(f"![{block.heading}]({block.figure[0]})")
    return "\n\n".join(parts) + "\n"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1400px; padding: 0 1rem }
p { max-width: 85ch }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top }
th { background: #f5f5f5 } code { background: #f5f5f5; overflow-wrap: anywhere } img { max-width: 100% }
.holds { color: #17692b; font-weight: 600 } .does-not { color: #a01c1c; font-weight: 600 }
.figure { white-space: nowrap }
"""
"""Style sheet of the page."""
COLOURED: Mapping[str, str] = {"holds": "holds", "does not hold": "does-not"}
"""Style classes of verdicts, which may have a note in brackets."""

FIGURE = re.compile(r"[-+\d.,]+ ± [\d.,]+( †)?")
"""Pattern of a figure with its spread, which is kept on one line."""


def as_html(blocks: Sequence[Block]) -> str:
    """The report as one HTML page without other files."""
    parts = []
    for number, block in enumerate(blocks):
        level = 2 if number else 1
        parts.append(f"<h{level}>{html.escape(block.heading)}</h{level}>")
        parts += [f"<p>{_inline(text)}</p>" for text in block.text]
        if block.head:
            head = "".join(f"<th>{html.escape(name)}</th>" for name in block.head)
            rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in block.rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        parts += [f"<p>{_inline(text)}</p>" for text in block.notes]
        if block.figure is not None:
            data = base64.b64encode(block.figure[1]).decode()
            parts.append(f'<img alt="{html.escape(block.heading)}" src="data:image/png;base64,{data}">')
    title = html.escape(blocks[0].heading)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _inline(text: str) -> str:
    """A paragraph in HTML; text between backquotes is code."""
    pieces = html.escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))


def _cell(text: str) -> str:
    kind = COLOURED.get(text.partition(" (")[0]) or ("figure" if FIGURE.fullmatch(text) else None)
    attribute = "" if kind is None else f' class="{kind}"'
    return f"<td{attribute}>{html.escape(text)}</td>"
