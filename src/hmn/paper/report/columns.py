"""The columns of the report's tables: the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from hmn.paper.grid import BM25, KEYWORDS, Row, title_of
from hmn.paper.network.search_budget import strategy_reads, target_reads
from hmn.paper.preset import Preset
from hmn.paper.published import PUBLISHED
from hmn.paper.report.document import Block
from hmn.paper.report.prose import entries, paragraph
from hmn.paper.verdicts.significance import Mean
from hmn.paper.verdicts.table import Table, best_validation

MISSING = "–"
UNITS = {KEYWORDS: " (keys alone)", BM25: " (list entries)"}
MISSED = " †"


class Column(NamedTuple):
    """A column: its heading, and what it says of a row that was run."""

    head: str
    cell: Callable[[Table, Row], str]


def row_table(
    title: str, table: Table, rows: Sequence[Row], preset: Preset, failed: Collection[str] = ()
) -> Block:
    """What the rows of one of the paper's tables found.

    Args:
        title: of the table.
        table: the runs.
        rows: those of the table.
        preset: their sizes.
        failed: names of rows that were run and failed.
    """
    if not any(row.name in table or row.name in failed for row in rows):
        return Block(title, ["Not run."])
    lines, columns = [], found_columns(preset)
    for row in rows:
        told = [column.cell(table, row) if row.name in table else MISSING for column in columns]
        if row.name not in table:
            told[0] = "failed" if row.name in failed else "not run"
        lines.append([title_of(row.name, preset), _paper_accuracy(row), _paper_size(row), *told])
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
    """Leave out columns in which no row has anything."""
    kept = [at for at in range(len(block.head)) if any(line[at] != MISSING for line in block.rows)]
    lines = [[line[at] for at in kept] for line in block.rows]
    return Block(block.heading, block.text, [block.head[at] for at in kept], lines, block.notes)


def figure(mean: Mean | None, scale: float = 1.0, digits: int = 1) -> str:
    """A figure, with its standard deviation where there are several seeds."""
    if mean is None:
        return MISSING
    spread = f" ± {scale * mean.spread:,.{digits}f}" if mean.seeds > 1 else ""
    return f"{scale * mean.value:,.{digits}f}{spread}"


def _paper_accuracy(row: Row) -> str:
    paper = PUBLISHED.get(row.name)
    return MISSING if paper is None else f"{paper.accuracy:.1f}{' (r)' if paper.recalled else ''}"


def _paper_size(row: Row) -> str:
    paper = PUBLISHED.get(row.name)
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
    """Validation under exact search after the epoch that is best for it, which need not be kept."""
    if row.exact or not row.network:
        return MISSING
    return figure(Mean.of([best_validation(run) for run in table.runs[row.name]]), 100)


def _tuned_to(table: Table, row: Row) -> str:
    """What the row's own search is set to, for each seed if it differs."""
    tuned = [run["tested"][table.split]["own"].get("tuned") for run in table.runs[row.name]]
    told = dict.fromkeys(str(one["value"]) for one in tuned if one and "value" in one)
    if not told:
        return MISSING
    name = next(one["setting"] for one in tuned if one)
    return ("" if row.strategy else f"{name} ") + ", ".join(told)


def _reads(preset: Preset) -> Callable[[Table, Row], str]:
    def cell(table: Table, row: Row) -> str:
        told = _tested("own", "reads", digits=0)(table, row) + UNITS.get(row.reader, "")
        return told + (MISSED if _missed(table, row, preset) else "")

    return cell


def _missed(table: Table, row: Row, preset: Preset) -> bool:
    """Whether any seed's reads are over a tenth from those that the row's search was to spend."""
    if not row.network or row.exact or row.reader in UNITS:
        return False
    cells = table.runs[row.name][0]["cells"][0]
    target = strategy_reads(preset, cells) if row.strategy else target_reads(preset, cells, row.speed_up)
    own = [run["tested"][table.split]["own"] for run in table.runs[row.name]]
    return any(
        abs(one["reads"] - target) > target / 10 or one.get("tuned", {}).get("reached") is False
        for one in own
    )


def _speed_up(table: Table, row: Row) -> str:
    reads = table.mean(row.name, "tested", table.split, "own", "reads")
    if reads is None or reads.value <= 0 or row.reader in UNITS:
        return MISSING
    return f"{table.runs[row.name][0]['cells'][0] / reads.value:,.1f}"


def _to_best(table: Table, row: Row) -> str:
    """Says so where training was cut, and whether the accuracy was still rising."""
    told, runs = _run("epochs_to_best")(table, row), table.runs[row.name]
    if not any(run.get("stopped") == "epochs" for run in runs):
        return told
    rising = ", still rising" if table.rising(row.name) else ""
    return f"{told} (cut at {max(len(run['curve']) for run in runs)}{rising})"


def _step_ratio(table: Table, row: Row) -> str:
    return figure(table.mean(row.name, "clock", "ratio"), 1.0, 2)


def _seeds(table: Table, row: Row) -> str:
    return str(len(table.runs[row.name]))


def found_columns(preset: Preset) -> tuple[Column, ...]:
    """The columns of what rows found, of runs with these sizes."""
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


def what_columns_mean() -> Block:
    """The meaning of each column."""
    return Block("What the columns mean", [], ["column", "meaning"], entries("columns"))
