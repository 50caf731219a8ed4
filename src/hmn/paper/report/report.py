"""The report: verdicts, figures, the paper's tables beside ours, and what they rest on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hmn.paper import published
from hmn.paper.grid import BESIDE, PAPERS_SPEED_UP, ROWS, TABLES, WIDE_WTA_HASH, title_of
from hmn.paper.preset import Preset
from hmn.paper.report.columns import cost_table, row_table, what_columns_mean
from hmn.paper.report.document import Block, as_html, as_markdown
from hmn.paper.report.notes import hardware, limits, machine, set_up
from hmn.paper.report.plots import draw_curves, draw_points, draw_reads
from hmn.paper.report.prose import paragraph, paragraphs
from hmn.paper.verdicts.claims import ONE_SEED, STILL_RISING, Verdict, verdicts
from hmn.paper.verdicts.convergence import REACHED
from hmn.paper.verdicts.decisions import NEXT_TO_NOTHING, SLOWER
from hmn.paper.verdicts.significance import MARGIN
from hmn.paper.verdicts.table import SETTLED, Table
from hmn.store.atomic import write_atomically

NONE_FAILED: Mapping[str, str] = MappingProxyType({})
"""Reasons by row where no row failed."""
QUESTIONS = {"test": "the test questions", "valid": "the validation questions (no test questions were given)"}
"""Names of the questions that a report is of."""


def write_report(
    folder: Path,
    runs: Sequence[Mapping[str, Any]],
    preset: Preset,
    command: str,
    failed: Mapping[str, str] = NONE_FAILED,
    *,
    earlier: bool = False,
) -> None:
    """Write ``report.md``, its figures, and ``report.html``, which contains them.

    For the arguments see ``report_blocks``.

    Raises:
        MissingPackageError: Matplotlib is not installed.
        BundleError: a file cannot be written.
    """
    blocks = report_blocks(runs, preset, command, failed, earlier=earlier)
    for block in blocks:
        if block.figure is not None:
            write_atomically(folder / block.figure[0], block.figure[1])
    write_atomically(folder / "report.md", as_markdown(blocks).encode())
    write_atomically(folder / "report.html", as_html(blocks).encode())


def report_blocks(
    runs: Sequence[Mapping[str, Any]],
    preset: Preset,
    command: str,
    failed: Mapping[str, str] = NONE_FAILED,
    *,
    earlier: bool = False,
) -> list[Block]:
    """The whole report.

    Args:
        runs: runs of one data set and preset; if some were asked the test questions, only they count.
        preset: sizes of the runs.
        command: command line that made the report.
        failed: reasons of the rows that failed, by their names.
        earlier: whether some runs come from earlier commands.
    """
    table = Table(runs)
    runs = [run for run in runs if table.split in run["tested"]]

    def title(name: str) -> str:
        return title_of(name, preset)

    found = verdicts(table)
    blocks = [
        Block(
            paragraph("opening", "title"),
            _opening(table, runs, preset, command, failed, earlier=earlier),
        ),
        _verdict_block(found, title),
        *_figure("convergence", draw_curves(table, title), "Figure 1: convergence"),
    ]
    if failed:
        lines = [[title(name), " ".join(reason.split())] for name, reason in failed.items()]
        blocks.append(Block("Rows that failed", [], ["row", "reason"], lines))
    blocks += _row_tables(table, preset, failed)
    if runs:
        blocks.append(cost_table(table, ROWS, preset))
    return [
        *blocks,
        *_figure("reads", draw_reads(table), "Accuracy against reads"),
        *_figure("points", draw_points(table, title), "Accuracy against reads, all rows"),
        _rules(found, title),
        what_columns_mean(),
        set_up(runs, preset),
        limits(runs, preset),
        machine(runs),
    ]


def _row_tables(table: Table, preset: Preset, failed: Collection[str]) -> list[Block]:
    """The tables of the rows; what explains several of them stands above the first."""
    blocks: list[Block] = []
    explained: set[str] = set()
    for name, heading in TABLES.items():
        own = [row for row in ROWS if row.table == name]
        rows = [one for row in own for one in (BESIDE.get(row.name), row) if one is not None]
        block = row_table(heading, table, rows, preset, failed)
        fresh = [text for text in block.text if not block.head or text not in explained]
        if name == "speed-up":
            fresh.append(_speed_up(preset))
        explained.update(fresh)
        blocks.append(replace(block, text=fresh))
    return blocks


def _speed_up(preset: Preset) -> str:
    """Why there are rows with more reads."""
    return paragraph(
        "captions",
        "speed-up",
        papers=PAPERS_SPEED_UP,
        cells=published.CELLS,
        ours=preset.speed_up,
        wta_hash=WIDE_WTA_HASH,
    )


def _figure(name: str, drawn: bytes | None, heading: str) -> list[Block]:
    if drawn is None:
        return []
    return [Block(heading, [paragraph("captions", name)], figure=(f"{name}.png", drawn))]


def _opening(
    table: Table,
    runs: Sequence[Mapping[str, Any]],
    preset: Preset,
    command: str,
    failed: Mapping[str, str],
    *,
    earlier: bool,
) -> list[str]:
    by = "run by several commands" if earlier else "run by one command"
    sizes = _sizes(table, runs, failed)
    opening = [
        paragraph("opening", "paper"),
        paragraph("opening", by, command=command, preset=preset.name, sizes=sizes),
        paragraph("opening", "accuracies", questions=QUESTIONS[table.split], left_out=_left_out(table)),
    ]
    return [*opening, paragraph("opening", "miniature")] if preset.name == "quick" else opening


def _sizes(table: Table, runs: Sequence[Mapping[str, Any]], failed: Mapping[str, str]) -> str:
    """The number of rows and seeds, and the data and machines that they were run on."""
    seeds = [len(runs_of_row) for runs_of_row in table.runs.values()]
    each = f"{min(seeds)} to {max(seeds)}" if len(set(seeds)) > 1 else f"{seeds[0] if seeds else 0}"
    sizes = f"{len(table.runs)} of {len(ROWS)} rows, {each} seed{'' if each == '1' else 's'} per row"
    if failed:
        sizes += f"; {len(failed)} failed and {'are' if len(failed) > 1 else 'is'} listed below"
    if runs:
        asked = max((run["questions"] for run in runs), key=lambda count: int(count["artificial"]))
        sizes += (
            f"; {max(run['facts'] for run in runs):,} facts, {asked['natural']:,} natural and "
            f"{asked['artificial']:,} artificial training questions; {hardware(runs)}"
        )
    return sizes


def _left_out(table: Table) -> str:
    """A sentence on the runs that were not asked the test questions, with a space after it; or nothing."""
    count = table.left_out
    if not count:
        return ""
    return paragraph("opening", "one left out" if count == 1 else "several left out", count=count) + " "


def _verdict_block(found: Sequence[Verdict], title: Callable[[str], str]) -> Block:
    rows = [
        [verdict.number, _claim(verdict.number)[0], verdict.text, title(verdict.figures)] for verdict in found
    ]
    given = {verdict.note for verdict in found}
    notes = [paragraph("verdicts", "rules first")]
    notes += [
        paragraph("verdicts", note, settled=SETTLED) for note in (ONE_SEED, STILL_RISING) if note in given
    ]
    return Block("Verdicts", [], ["", "claim", "verdict", "figures"], rows, notes)


def _rules(found: Sequence[Verdict], title: Callable[[str], str]) -> Block:
    rows = [[verdict.number, title(_claim(verdict.number)[1])] for verdict in found]
    text = paragraphs("verdicts", "how claims are decided", margin=MARGIN)
    return Block("How the claims are decided", text, ["", "rule"], rows)


def _claim(number: str) -> list[str]:
    """A claim and its rule."""
    shares = {"reached": REACHED, "slower": SLOWER, "next_to_nothing": NEXT_TO_NOTHING}
    percent = {name: 100 * share for name, share in shares.items()}
    return paragraphs("claims", number, papers_speed_up=PAPERS_SPEED_UP, **percent)
