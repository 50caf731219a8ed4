"""The report: the paper's tables beside ours, the figures, the verdicts, and what they rest on."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hmn.paper import published
from hmn.paper.claims import Verdict, verdicts
from hmn.paper.plots import draw_curves, draw_reads
from hmn.paper.preset import Preset
from hmn.paper.published import PUBLISHED
from hmn.paper.rows import BM25, KEYWORDS, ROWS, TABLES, Row
from hmn.paper.table import MARGIN, Mean, Table
from hmn.store.atomic import write_atomically

HEAD = (
    "row",
    "paper: accuracy",
    "ours: fact",
    "ours: fact, exact search",
    "ours: pair",
    "paper: softmax size",
    "ours: softmax size",
    "reads",
    "recall@10",
    "s a step",
    "s an epoch",
    "epochs to the best",
    "peak MiB",
    "seeds",
)
MISSING = "–"
UNITS = {KEYWORDS: " (keys alone)", BM25: " (list entries)"}


@dataclass(frozen=True)
class Block:
    """A part of the report: a heading with paragraphs, then a table or a figure."""

    heading: str
    text: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=list)
    figure: tuple[str, bytes] | None = None
    """File name and PNG."""


def write_report(folder: Path, runs: Sequence[dict[str, Any]], preset: Preset, command: str) -> None:
    """Write ``report.md``, its figures, and ``report.html``, which holds them in itself.

    Raises:
        MissingPackageError: Matplotlib is not installed.
        BundleError: a file cannot be written.
    """
    blocks = report_blocks(runs, preset, command)
    for block in blocks:
        if block.figure is not None:
            write_atomically(folder / block.figure[0], block.figure[1])
    write_atomically(folder / "report.md", as_markdown(blocks).encode())
    write_atomically(folder / "report.html", as_html(blocks).encode())


def report_blocks(runs: Sequence[dict[str, Any]], preset: Preset, command: str) -> list[Block]:
    """The whole report.

    Args:
        runs: those of one data set and preset.
        preset: their sizes.
        command: what is said to have made it.
    """
    table = Table(runs)
    blocks = [
        Block("Hierarchical Memory Networks: the paper's experiments, run anew", _opening(table, command))
    ]
    if preset.name == "quick":
        told = "A miniature, to see that everything runs: its figures say nothing about the paper."
        blocks.append(Block("Preset quick", [told]))
    found = [
        replace(one, figures=title_of(one.figures, preset), rule=title_of(one.rule, preset))
        for one in verdicts(table)
    ]
    blocks.append(_verdict_block(found))
    for name, title in TABLES.items():
        rows = [row for row in ROWS if row.table == name]
        done = [row for row in rows if row.name in table]
        if done:
            blocks.append(Block(title, [], HEAD, [_line(table, row, preset) for row in rows]))
        else:
            blocks.append(Block(title, ["Not run."]))
    curves, reads = draw_curves(table), draw_reads(table, lambda name: title_of(name, preset))
    if curves is not None:
        told = (
            "Validation after each epoch, with the row's own search; mean over seeds. Seconds are those of "
            "training and of tuning the search, without those of validation."
        )
        blocks.append(Block("Figure 1: convergence", [told], figure=("convergence.png", curves)))
    if reads is not None:
        told = (
            "Each row with its own search, and exact 10-MIPS also through clusters. The keyword filter and "
            "BM25 are left out: not all that they read is counted."
        )
        blocks.append(Block("Accuracy against reads", [told], figure=("reads.png", reads)))
    return [*blocks, _columns(), _set_up(runs, preset), _limits(runs), _machine(runs)]


def _opening(table: Table, command: str) -> list[str]:
    split = {"test": "the test questions", "valid": "the validation questions (no test questions were given)"}
    return [
        "Chandar, Ahn, Larochelle, Vincent, Tesauro, Bengio: Hierarchical Memory Networks, 2016 "
        "(arXiv 1605.07427).",
        f"Made by `{command}`. Accuracies are those of {split[table.split]}, in per cent; ± is the standard "
        "deviation over seeds. Figures of the paper are on its test questions; those marked (r) are "
        "recalled, not read, and decide nothing.",
    ]


def _verdict_block(found: Sequence[Verdict]) -> Block:
    rows = [
        [str(number), one.claim, one.verdict, one.figures, one.rule] for number, one in enumerate(found, 1)
    ]
    told = (
        "Every verdict follows from a rule that was written before there were figures. One accuracy is more "
        f"or less than another if they differ by more than {MARGIN:g} standard errors (of the questions and "
        "of the seeds; ± below is one of them); otherwise they are level."
    )
    return Block("Verdicts", [told], ["", "claim", "verdict", "figures", "rule"], rows)


def title_of(name: str, preset: Preset) -> str:
    """A row's name with the numbers of clusters that a preset has."""
    few, many = f"{preset.few_clusters:,}", f"{preset.many_clusters:,}"
    return name.replace("with few clusters", f"with {few} clusters").replace(
        "with many clusters", f"with {many} clusters"
    )


def _line(table: Table, row: Row, preset: Preset) -> list[str]:
    title = title_of(row.name, preset)
    paper = PUBLISHED.get(row.name)
    said = MISSING if paper is None else f"{paper.accuracy:.1f}{' (r)' if paper.recalled else ''}"
    size = MISSING if paper is None or paper.softmax_size is None else f"{paper.softmax_size:,}"
    if row.name not in table:
        return [title, said, "not run", *[MISSING] * 2, size, *[MISSING] * (len(HEAD) - 6)]
    own = ("tested", table.split, "own")

    def shown(*path: str, scale: float = 1.0, digits: int = 1) -> str:
        return _figure(table.mean(row.name, *path), scale, digits)

    return [
        title,
        said,
        shown(*own, "fact", scale=100),
        "the same" if row.exact else shown("tested", table.split, "exact", "fact", scale=100),
        shown(*own, "pair", scale=100),
        size,
        shown("softmax_size", digits=0),
        shown(*own, "reads", digits=0) + UNITS.get(row.reader, ""),
        shown(*own, "recall", digits=3),
        shown("seconds_a_step", digits=3),
        shown("seconds_an_epoch"),
        shown("epochs_to_best") + _cut(table, row.name),
        shown("peak_mib", digits=0),
        str(len(table.runs[row.name])),
    ]


def _cut(table: Table, name: str) -> str:
    """Says so where the accuracy was still rising when training had to end."""
    cut = any(run.get("stopped") == "epochs" for run in table.runs[name])
    return f" (cut at {max(len(run['curve']) for run in table.runs[name])})" if cut else ""


def _figure(mean: Mean | None, scale: float, digits: int) -> str:
    if mean is None:
        return MISSING
    spread = f" ± {scale * mean.spread:,.{digits}f}" if mean.seeds > 1 else ""
    return f"{scale * mean.value:,.{digits}f}{spread}"


def _columns() -> Block:
    return Block(
        "What the columns say",
        [
            "fact: the best cell is the question's exact fact, found with the row's own search; with exact "
            "search: the same network, tested with exact search over all cells. pair: subject and relation "
            "are both right.",
            "softmax size: cells that the training softmax normalises over, after the union over the batch "
            "and with the correct ones, mean over all steps. reads: bytes of memory and index touched for "
            "one question as if it came alone, in units of a key; exact search reads all cells. recall@10: "
            "share of the ten best cells of exact search that the row's own search finds.",
            "s a step: from words to the moved vectors. s an epoch: all steps of one. Both without "
            "validation. Peak MiB: of a process that runs the row alone, data and libraries included.",
        ],
    )


def _set_up(runs: Sequence[dict[str, Any]], preset: Preset) -> Block:
    asked = max(
        (run["questions"] for run in runs),
        key=lambda one: int(one["artificial"]),
        default={"natural": 0, "artificial": 0},
    )
    settings = ", ".join(
        f"{name} {value}" for name, value in asdict(preset).items() if name not in {"transe", "name"}
    )
    transe = ", ".join(f"{name} {value}" for name, value in asdict(preset.transe).items() if name != "seed")
    return Block(
        "Set-up",
        [
            f"Preset {preset.name}: {settings}.",
            f"Cells: TransE of PyTorch Geometric ({transe}, Euclidean distance, its seed that of the run), "
            "trained on the facts of the memory; subject and object at length 1, as the model compares them. "
            "Subject, relation and object side by side, or added where it says so.",
            f"Questions: {asked['natural']:,} natural and {asked['artificial']:,} artificial ones an epoch. "
            "An artificial question is made for every fact that no training question asks for: the words of "
            "the first name of its subject and all words of its relation (domain, type, property), the same "
            "in every epoch. Only the exact fact is right, also where other facts have the same subject and "
            "relation. Words that training never saw are left out of a question.",
            "Adam moves every word at every step by its momentum, as it does on a dense table; the words "
            "begin at normal random numbers. Training stops when validation fact_accuracy (with the row's "
            f"own search) has not risen for {preset.patience} epochs, or after {preset.epochs}; the best "
            "epoch is kept.",
            f"Approximate searches are tuned before every epoch to cells / {preset.speed_up} reads, the grid "
            f"of strategies, which scores all centroids in full, to cells / {preset.strategies_speed_up}, on "
            f"{preset.tuned_on} training questions as they are then. In training all cells that the search "
            "looks at are candidates (10-MIPS by clusters: the ten best of them). Clusters: spherical "
            "k-means on the paper's reduction. A strategy's parts have equal numbers of clusters, a block as "
            "many cells as they hold; at test time a question draws its own.",
            "REINFORCE: one cell drawn from the full softmax, reward 1 for the right one, a moving average "
            "as its baseline. Keyword filter: facts whose subject's name shares an n-gram of one to three "
            "words with the question that at most one fact in 500 (at least 8) has; then a softmax over "
            "them.",
            "Today's systems see a text for each name of a fact's subject, with the words of the relation. "
            "BM25: k1 = 1.5, b = 0.75. MiniLM: all-MiniLM-L6-v2 (mean of the hidden states, length 1), "
            "searched by faiss IVF with a list for 64 cells, of which 16 are read; trained by AdamW at 2e-5 "
            "(a tenth of warm-up, then linearly down) in one pass over the natural questions in batches as "
            "above, cosines times 20 in a softmax: over the right texts of the batch (in-batch negatives), "
            f"or over the union of each question's 4 best cells of the whole memory, encoded again every "
            f"{preset.sentences_renewed} steps for the search and afresh for the loss (4-MIPS attention).",
        ],
    )


def _limits(runs: Sequence[dict[str, Any]]) -> Block:
    facts = max((run["facts"] for run in runs), default=0)
    natural = max((run["questions"]["natural"] for run in runs), default=0)
    return Block(
        "Limits",
        [
            f"The memory holds {facts:,} cells ({100 * facts / published.CELLS:.0f} % of the paper's "
            f"{published.CELLS:,}) and training has {natural:,} questions "
            f"({100 * natural / published.TRAIN:.0f} % of its {published.TRAIN:,}): our figures are not "
            "those of its set-up, and only differences between rows can be compared.",
            "Not in the paper, and chosen by us: the facts and settings of TransE, the words of the "
            "artificial questions, the first vectors of the words, all settings of the approximate searches "
            "and the reads that they spend.",
        ],
    )


def _machine(runs: Sequence[dict[str, Any]]) -> Block:
    lines: dict[str, set[int]] = {}
    for run in runs:
        told = ", ".join(f"{name} {value}" for name, value in run["machine"].items() if value is not None)
        lines.setdefault(f"{told}; {run['date']}", set()).add(run["seed"])
    return Block(
        "Machine, versions, seeds",
        [f"{line}; seeds {', '.join(map(str, sorted(seeds)))}." for line, seeds in lines.items()],
    )


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
        if block.figure is not None:
            parts.append(f"![{block.heading}]({block.figure[0]})")
    return "\n\n".join(parts) + "\n"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1240px; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top }
th { background: #f5f5f5 } code { background: #f5f5f5 } img { max-width: 100% }
.holds { color: #17692b; font-weight: 600 } .does-not { color: #a01c1c; font-weight: 600 }
"""


def as_html(blocks: Sequence[Block]) -> str:
    """The report as one page that needs nothing else."""
    parts = []
    for number, block in enumerate(blocks):
        level = 2 if number else 1
        parts.append(f"<h{level}>{html.escape(block.heading)}</h{level}>")
        parts += [f"<p>{_inline(text)}</p>" for text in block.text]
        if block.head:
            head = "".join(f"<th>{html.escape(name)}</th>" for name in block.head)
            rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in block.rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        if block.figure is not None:
            data = base64.b64encode(block.figure[1]).decode()
            parts.append(f'<img alt="{html.escape(block.heading)}" src="data:image/png;base64,{data}">')
    title = html.escape(blocks[0].heading)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _inline(text: str) -> str:
    """A paragraph, with what stands between backquotes as code."""
    pieces = html.escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces))


def _cell(text: str) -> str:
    kind = {"holds": ' class="holds"', "does not": ' class="does-not"'}.get(text, "")
    return f"<td{kind}>{html.escape(text)}</td>"
