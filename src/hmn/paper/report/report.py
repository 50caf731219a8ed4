"""The report: the paper's tables beside ours, the figures, the verdicts, and what they rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hmn.paper.grid import ROWS, TABLES, title_of
from hmn.paper.preset import Preset
from hmn.paper.report.columns import cost_table, row_table, what_columns_say
from hmn.paper.report.document import Block, as_html, as_markdown
from hmn.paper.report.notes import hardware, limits, machine, set_up
from hmn.paper.report.plots import draw_curves, draw_points, draw_reads
from hmn.paper.verdicts.claims import ONE_SEED, STILL_RISING, Verdict, verdicts
from hmn.paper.verdicts.significance import MARGIN
from hmn.paper.verdicts.table import SETTLED, Table
from hmn.store.atomic import write_atomically

NONE_FAILED: Mapping[str, str] = MappingProxyType({})


def write_report(
    folder: Path,
    runs: Sequence[Mapping[str, Any]],
    preset: Preset,
    command: str,
    failed: Mapping[str, str] = NONE_FAILED,
    *,
    earlier: bool = False,
) -> None:
    """Write ``report.md``, its figures, and ``report.html``, which holds them in itself.

    Args as ``report_blocks`` has them.

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
        runs: those of one data set and preset; if some were asked the test questions, they alone count.
        preset: their sizes.
        command: what is said to have made it.
        failed: rows that were run and failed, each with the reason.
        earlier: whether some of the runs are of commands before this one.
    """
    table = Table(runs)
    runs = [run for run in runs if table.split in run["tested"]]

    def title(name: str) -> str:
        return title_of(name, preset)

    found = verdicts(table)
    by = f"by several commands, the last of them `{command}`" if earlier else f"by `{command}`"
    blocks = [
        Block(
            "Hierarchical Memory Networks: the paper's experiments, run anew",
            _opening(table, runs, preset, by, failed),
        ),
        _verdict_block(found, title),
        *_figure("convergence.png", draw_curves(table, title), "Figure 1: convergence", CONVERGENCE),
    ]
    if failed:
        lines = [[title(name), " ".join(reason.split())] for name, reason in failed.items()]
        blocks.append(Block("Rows that failed", [], ["row", "reason"], lines))
    for name, heading in TABLES.items():
        rows = [row for row in ROWS if row.table == name]
        blocks.append(row_table(heading, table, rows, preset, failed))
    if runs:
        blocks.append(cost_table(table, ROWS, preset))
    return [
        *blocks,
        *_figure("reads.png", draw_reads(table), "Accuracy against reads", SWEEPS),
        *_figure("points.png", draw_points(table, title), "Accuracy against reads, all rows", POINTS),
        _rules(found, title),
        what_columns_say(),
        set_up(runs, preset),
        limits(runs, preset),
        machine(runs),
    ]


CONVERGENCE = (
    "Validation after each epoch, under exact search for all rows, whatever their own search is (the keyword "
    "filter then without its filter). Thick: mean over seeds, as far as all have trained; thin: each seed. "
    "Seconds are those of building and tuning the search and of training, without validation; a row's steps "
    "take their multiple of the full softmax's, so that all rows have one clock."
)
SWEEPS = (
    "Each panel is the trained network of a row, each line a search structure that is tuned to more and more "
    "reads, a fifth of the cells at most, and asked the validation questions; a line for each seed. WTA-Hash "
    "ends where its tables hold no more cells for a question. Dashed: the same network with exact search, "
    "which reads all cells. The points are the searches that the tables report, those of validation."
)
POINTS = (
    "Each row with its own search, and exact 10-MIPS also through clusters. The keyword filter and BM25 are "
    "left out: not all that they read is counted."
)


def _figure(name: str, drawn: bytes | None, heading: str, told: str) -> list[Block]:
    return [] if drawn is None else [Block(heading, [told], figure=(name, drawn))]


def _opening(
    table: Table,
    runs: Sequence[Mapping[str, Any]],
    preset: Preset,
    by: str,
    failed: Mapping[str, str],
) -> list[str]:
    split = {"test": "the test questions", "valid": "the validation questions (no test questions were given)"}
    seeds = [len(one) for one in table.runs.values()]
    each = f"{min(seeds)} to {max(seeds)}" if len(set(seeds)) > 1 else f"{seeds[0] if seeds else 0}"
    told = f"{len(table.runs)} of {len(ROWS)} rows, {each} seed{'' if each == '1' else 's'} a row"
    if failed:
        told += f"; {len(failed)} failed and {'are' if len(failed) > 1 else 'is'} listed below"
    if runs:
        asked = max((run["questions"] for run in runs), key=lambda one: int(one["artificial"]))
        told += (
            f"; {max(run['facts'] for run in runs):,} facts, {asked['natural']:,} training questions and "
            f"{asked['artificial']:,} artificial ones; {hardware(runs)}"
        )
    left = table.left_out
    unasked = (
        f"{left} finished run{'' if left == 1 else 's'} that {'was' if left == 1 else 'were'} not asked them "
        f"{'is' if left == 1 else 'are'} left out: --only and --seeds choose which are. "
        if left
        else ""
    )
    opening = [
        "Chandar, Ahn, Larochelle, Vincent, Tesauro, Bengio: Hierarchical Memory Networks, 2016 "
        "(arXiv 1605.07427).",
        f"What was run, {by}: preset {preset.name}; {told}.",
        f"Accuracies are those of {split[table.split]}, in per cent. {unasked}Figures of the paper are on "
        "its test questions; those marked (r) are recalled, not read, and decide nothing.",
    ]
    if preset.name == "quick":
        opening.append(
            "Preset quick is a miniature, to see that everything runs: "
            "its figures say nothing about the paper."
        )
    return opening


def _verdict_block(found: Sequence[Verdict], title: Callable[[str], str]) -> Block:
    rows = [[one.number, one.claim, one.told, title(one.figures)] for one in found]
    notes = [
        "Every verdict follows from a rule that was written before there were figures (8a and 8b: before "
        "there were any of hmn's own clusters, when those of the paper's were known); the rules are below. "
        "± behind a difference is what it must exceed: what is within counts as level.",
    ]
    if any(one.note == ONE_SEED for one in found):
        notes.append(
            "(one seed): every row that the verdict rests on was run once, and no other row tells how much "
            "accuracy differs from one seed to the next. Only the choice of questions is accounted for: with "
            "other seeds the verdict may be another."
        )
    if any(one.note == STILL_RISING for one in found):
        notes.append(
            "still rising: a row that the verdict rests on was cut after the last epoch that was allowed, "
            f"less than {SETTLED} epochs after its best: with more epochs it might have become better."
        )
    return Block("Verdicts", [], ["", "claim", "verdict", "figures"], rows, notes)


def _rules(found: Sequence[Verdict], title: Callable[[str], str]) -> Block:
    told = [
        "An accuracy is more or less than another if they differ by more than "
        f"{MARGIN:g} standard errors, or Student's t where few seeds tell the error (2.5 % on either side, "
        "degrees of freedom after Welch and Satterthwaite); otherwise they are level. The error has two "
        "parts. Of the questions: rows are compared question by question, in the mean over seeds, and it is "
        "the standard error of these differences (where answers were not kept, that of different questions, "
        "which is larger). Of the seeds: the standard deviation over a row's seeds; a row with one seed is "
        "given that of all networks with several, together. Each comparison counts by itself; of twenty "
        "between equals, one is called a difference.",
        "Two seeds tell little of a standard deviation (one degree of freedom: Student's t is 12.7), so a "
        "row with two can have a wider ± than a row with one, which takes the estimate of all. This "
        "estimate is mostly that of networks trained through coarse searches, which differ most from seed "
        "to seed: for a row of exact search with one seed it is too wide. A part of theirs is no chance "
        "but steps: a search looks at whole clusters, and one seed may be tuned to three, another to two "
        "(column tuned to).",
    ]
    rows = [[one.number, title(one.rule)] for one in found]
    return Block("How the claims are decided", told, ["", "rule"], rows)
