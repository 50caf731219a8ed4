"""The columns of the report's tables: the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from hmn.paper.grid import BESIDE, BM25, KEYWORDS, Row, title_of
from hmn.paper.network.attention.search_budget import strategy_reads, target_reads
from hmn.paper.preset import Preset
from hmn.paper.published import PUBLISHED, Published
from hmn.paper.report.document import Block
from hmn.paper.report.prose import entries, paragraph
from hmn.paper.verdicts.significance import Mean
from hmn.paper.verdicts.table import Table, best_validation

MISSING = "–"
"""Text of a cell without a figure."""
UNITS = {KEYWORDS: " (keys alone)", BM25: " (list entries)"}
"""Units of reads that do not count in keys, by reader."""
MISSED = " †"
"""Mark of reads that are over a tenth away from their target."""


class Column(NamedTuple):
    """A column: its heading, and the text of its cell for a row that was run."""

    head: str
    cell: Callable[[Table, Row], str]


def row_table(
    title: str, table: Table, rows: Sequence[Row], preset: Preset, failed: Collection[str] = ()
) -> Block:
    """The figures of the rows of one table.

    Args:
        title: heading of the table.
        table: all runs.
        rows: rows of the table.
        preset: sizes of the rows.
        failed: names of the rows that failed.
    """
    if not any(row.name in table or row.name in failed for row in rows):
        return Block(title, ["Not run yet."])
    lines, columns = [], found_columns(preset)
    for row in rows:
        cells = [column.cell(table, row) if row.name in table else MISSING for column in columns]
        if row.name not in table:
            cells[0] = "failed" if row.name in failed else "not run yet"
        lines.append([title_of(row.name, preset), _paper_accuracy(row), _paper_size(row), *cells])
    head = ["row", "paper: accuracy", "paper: softmax size", *(column.head for column in columns)]
    text = [paragraph("captions", "equal reads")] if any(row.index != "exact" for row in rows) else []
    notes = (
        [paragraph("captions", "missed reads")]
        if any(MISSED in cell for line in lines for cell in line)
        else []
    )
    return _without_empty(Block(title, text, head, lines, notes))


def cost_table(table: Table, rows: Sequence[Row], preset: Preset) -> Block:
    """Time and memory of all rows that were run."""
    lines = [
        [title_of(row.name, preset), *(column.cell(table, row) for column in COSTS)]
        for row in rows
        if row.name in table
    ]
    return _without_empty(Block("Time and memory", [], ["row", *(column.head for column in COSTS)], lines))


def _without_empty(block: Block) -> Block:
    """Leave out columns without any figure."""
    kept = [
        number for number in range(len(block.head)) if any(line[number] != MISSING for line in block.rows)
    ]
    lines = [[line[number] for number in kept] for line in block.rows]
    return Block(block.heading, block.text, [block.head[number] for number in kept], lines, block.notes)


def figure(mean: Mean | None, scale: float = 1.0, digits: int = 1) -> str:
    """A figure, with its standard deviation if there are several seeds."""
    if mean is None:
        return MISSING
    spread = f" ± {scale * mean.spread:,.{digits}f}" if mean.seeds > 1 else ""
    return f"{scale * mean.value:,.{digits}f}{spread}"


def _published(row: Row) -> Published | None:
    """The paper's figures of a row, or of the row that it is compared with."""
    return PUBLISHED.get(BESIDE.get(row.name, row).name)


def _paper_accuracy(row: Row) -> str:
    paper = _published(row)
    return MISSING if paper is None else f"{paper.accuracy:.1f}{' (r)' if paper.recalled else ''}"


def _paper_size(row: Row) -> str:
    paper = _published(row)
    return MISSING if paper is None or paper.softmax_size is None else f"{paper.softmax_size:,}"


def _tested(how: str, what: str, scale: float = 1.0, digits: int = 1) -> Callable[[Table, Row], str]:
    def cell(table: Table, row: Row) -> str:
        return figure(table.mean(row.name, "tested", table.split, how, what), scale, digits)

    return cell


def _run(what: str, digits: int = 1) -> Callable[[Table, Row], str]:
    def cell(table: Table, row: Row) -> str:
        return figure(table.mean(row.name, what), 1.0, digits)

    return cell


def _exact(table: Table, row: Row) -> str:
    return "the same" if row.exact else _tested("exact", "fact", 100)(table, row)


def _best_epoch(table: Table, row: Row) -> str:
    """Best validation accuracy of any epoch under exact search; another epoch may be the one kept."""
    if row.exact or not row.network:
        return MISSING
    return figure(Mean.of([best_validation(run) for run in table.runs[row.name]]), 100)


def _tuned_to(table: Table, row: Row) -> str:
    """The setting of the row's own search, for each seed if they differ."""
    tuned = [run["tested"][table.split]["own"].get("tuned") for run in table.runs[row.name]]
    values = dict.fromkeys(str(setting["value"]) for setting in tuned if setting and "value" in setting)
    if not values:
        return MISSING
    name = next(setting["setting"] for setting in tuned if setting)
    return ("" if row.strategy else f"{name} ") + ", ".join(values)


def _reads(preset: Preset) -> Callable[[Table, Row], str]:
    def cell(table: Table, row: Row) -> str:
        reads = _tested("own", "reads", digits=0)(table, row) + UNITS.get(row.reader, "")
        return reads + (MISSED if _missed(table, row, preset) else "")

    return cell


def _missed(table: Table, row: Row, preset: Preset) -> bool:
    """Whether any seed's reads are over a tenth away from the target of the row's search."""
    if not row.network or row.exact or row.reader in UNITS:
        return False
    cells = table.runs[row.name][0]["cells"][0]
    target = strategy_reads(preset, cells) if row.strategy else target_reads(preset, cells, row.speed_up)
    own = [run["tested"][table.split]["own"] for run in table.runs[row.name]]
    return any(
        abs(figures["reads"] - target) > target / 10 or figures.get("tuned", {}).get("reached") is False
        for figures in own
    )


def _speed_up(table: Table, row: Row) -> str:
    reads = table.mean(row.name, "tested", table.split, "own", "reads")
    if reads is None or reads.value <= 0 or row.reader in UNITS:
        return MISSING
    return f"{table.runs[row.name][0]['cells'][0] / reads.value:,.1f}"


def _to_best(table: Table, row: Row) -> str:
    """Epochs to the best one; with a note if training met the epoch limit, and if it was still improving."""
    epochs, runs = _run("epochs_to_best")(table, row), table.runs[row.name]
    if not any(run.get("stopped") == "epochs" for run in runs):
        return epochs
    rising = ", still rising" if table.rising(row.name) else ""
    return f"{epochs} (cut at {max(len(run['curve']) for run in runs)}{rising})"


def _step_ratio(table: Table, row: Row) -> str:
    return figure(table.mean(row.name, "clock", "ratio"), 1.0, 2)


def _seeds(table: Table, row: Row) -> str:
    return str(len(table.runs[row.name]))


def found_columns(preset: Preset) -> tuple[Column, ...]:
    """The columns of figures, for runs with these sizes."""
    return (
        Column("ours: fact", _tested("own", "fact", 100)),
        Column("ours: fact, exact search", _exact),
        Column("ours: best epoch under exact search", _best_epoch),
        Column("ours: fact, common search", _tested("common", "fact", 100)),
        Column("ours: pair", _tested("own", "pair", 100)),
        Column("ours: softmax size", _run("softmax_size", 0)),
        Column("reads", _reads(preset)),
        Column("tuned to", _tuned_to),
        Column("speed-up in reads", _speed_up),
        Column("recall@10", _tested("own", "recall", digits=3)),
        Column("coverage, %", _tested("own", "coverage", 100)),
        Column("seeds", _seeds),
    )


COSTS = (
    Column("step / full softmax", _step_ratio),
    Column("seconds per step", _run("seconds_a_step", 3)),
    Column("seconds per epoch", _run("seconds_an_epoch")),
    Column("epochs to best", _to_best),
    Column("seconds to build", _run("build_seconds")),
    Column("questions per second", _tested("own", "questions_a_second", digits=0)),
    Column("peak MiB", _run("peak_mib", 0)),
    Column("accelerator peak MiB", _run("accelerator_peak_mib", 0)),
)
"""Columns of time and memory."""


def what_columns_mean() -> Block:
    """The meaning of each column."""
    return Block("What the columns mean", [], ["column", "meaning"], entries("columns"))
