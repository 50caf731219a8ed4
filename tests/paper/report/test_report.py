from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason='the report needs Matplotlib: pip install "hmn[paper]"')

from hmn.paper.grid import KEYWORDS, KMIPS, ROWS, TEXT, Row, title_of
from hmn.paper.preset import PRESETS
from hmn.paper.report.columns import MISSING
from hmn.paper.report.document import Block, as_html, as_markdown
from hmn.paper.report.plots import common_epochs, swept
from hmn.paper.report.prose import paragraph
from hmn.paper.report.report import report_blocks, write_report
from hmn.paper.verdicts.table import Table

FULL = PRESETS["full"]
FOOTNOTE = paragraph("columns", "missed reads")


def made_run(row: Row, number: int, seed: int = 0) -> dict[str, Any]:
    def tested(fact: float) -> dict[str, Any]:
        return {
            "questions": 900,
            "fact": fact,
            "pair": fact + 0.05,
            "reads": 500.0 + number,
            "recall": 0.75,
            "questions_a_second": 1234.0,
        }

    fact = 0.3 + 0.01 * number + 0.002 * seed
    searches = {"own": tested(fact), "exact": tested(fact + 0.1)}
    if row.strategy:
        searches["own"]["tuned"] = {"setting": "strategy", "value": "top-k:2"}
    elif row.reader == KMIPS and not row.exact:
        searches["own"]["tuned"] = {"setting": "num_probes", "value": 3}
    if row.also_tested_with:
        searches["other"] = tested(fact - 0.1)
    if row.strategy:
        searches["common"] = tested(fact + 0.02)
    if row.reader == KEYWORDS:
        searches["own"]["coverage"] = 0.876
    curve = [(1, fact / 2), (2, fact), (3, fact - 0.01)]
    return {
        "name": row.name,
        "table": row.table,
        "seed": seed,
        "device": "cpu",
        "date": "2026-01-01",
        "facts": 81_004,
        "cells": [81_004, 600],
        "questions": {"natural": 48_737, "artificial": 1234},
        "machine": {
            "processor": "Some <CPU>",
            "cores": 2,
            "accelerator": None,
            "torch": "2.13.0",
            "load_average": [1.5 + seed, 1.0, 1.0],
        },
        "softmax_size": 4321.4,
        "seconds_a_step": 0.1234,
        "seconds_an_epoch": 77.5,
        "build_seconds": 12.5,
        "epochs_to_best": 2,
        "stopped": "patience",
        "peak_mib": 1500.2,
        "accelerator_peak_mib": None,
        "curve": [
            {"epoch": epoch, "fact": 0.9 * value, "exact": {"fact": value}, "seconds": 80.0 * epoch}
            for epoch, value in curve
        ],
        "sweep": [
            {"structure": structure, "reads": reads, "fact": fact * (1 - 10 / reads)}
            for structure in ("clusters", "WTA-Hash")
            for reads in (800.0, 100.0)
        ],
        "tested": {"valid": searches},
    }


def block_of(blocks: list[Block], heading: str) -> Block:
    return next(block for block in blocks if block.heading == heading)


def cell_of(block: Block, column: str, row: int = 0) -> str:
    return block.rows[row][list(block.head).index(column)]


class Page(HTMLParser):
    """Collects rows of tables, images and what would be fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.images: list[str] = []
        self.fetched: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self._cell = True
            self.rows[-1].append("")
        if tag == "img":
            self.images.append(given["src"] or "")
        if tag in {"script", "link", "iframe"}:
            self.fetched.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


def test_the_report_holds_every_row_with_the_papers_figure_beside_ours(tmp_path: Path) -> None:
    runs = [made_run(row, number) for number, row in enumerate(ROWS)]
    write_report(tmp_path, runs, FULL, "hmn paper --facts F")
    page, text = Page((tmp_path / "report.html").read_text()), (tmp_path / "report.md").read_text()
    blocks = report_blocks(runs, FULL, "")
    lines = {
        line[0]: dict(zip(block.head, line, strict=True))
        for block in blocks
        for line in block.rows
        if "ours: fact" in block.head
    }
    costs = block_of(blocks, "Time and memory")
    for number, row in enumerate(ROWS):
        line = lines[title_of(row.name, FULL)]
        assert line["ours: fact"] == f"{100 * (0.3 + 0.01 * number):.1f}"
        searched = "the same" if row.exact else f"{100 * (0.4 + 0.01 * number):.1f}"
        assert line["ours: fact, exact search"] == searched
        assert line["ours: pair"] == f"{100 * (0.35 + 0.01 * number):.1f}"
        unit = " (keys alone)" if "keyword" in row.name else " (list entries)" if row.name == "BM25" else ""
        searched_less = row.network and not row.exact and row.reader != KEYWORDS  # than it was to read
        reads = f"{500 + number}{unit}{' †' if searched_less else ''}"
        assert (line["ours: softmax size"], line["reads"]) == ("4,321", reads)
        best = f"{100 * (0.3 + 0.01 * number):.1f}" if row.network and not row.exact else MISSING
        assert line.get("ours: best epoch under exact search", MISSING) == best
        tuned = MISSING if row.reader != KMIPS or row.exact else "top-k:2" if row.strategy else "num_probes 3"
        assert line.get("tuned to", MISSING) == tuned
        assert line["speed-up in reads"] == (MISSING if unit else f"{81004 / (500 + number):.1f}")
        assert (line["recall@10"], line["seeds"]) == ("0.750", "1")
        assert line.get("coverage, %", MISSING) == ("87.6" if row.reader == KEYWORDS else MISSING)
        common = f"{100 * (0.32 + 0.01 * number):.1f}" if row.strategy else None
        assert line.get("ours: fact, common search") == common
        assert costs.rows[number] == [
            *(title_of(row.name, FULL), "0.123", "77.5", "2.0", "12.5", "1,234", "1,500")
        ]
    assert lines["exact 10-MIPS"]["paper: accuracy"] == "62.2"
    assert lines["exact 10-MIPS"]["paper: softmax size"] == "1,290"
    assert lines["Top-K with 1,000 clusters"]["paper: accuracy"] == "50.2 (r)"
    # a column in which nothing stands is left out
    assert "paper: accuracy" not in lines["REINFORCE"]
    assert "accelerator peak MiB" not in costs.head
    shown = [list(line) for block in blocks if block.head for line in (block.head, *block.rows)]
    assert page.rows == shown
    for line in shown:
        assert "| " + " | ".join(line) + " |" in text
    assert page.fetched == []
    names = ("convergence.png", "reads.png", "points.png")
    assert len(page.images) == len(names)
    for image, name in zip(page.images, names, strict=True):
        data = base64.b64decode(image.removeprefix("data:image/png;base64,"))
        assert data == (tmp_path / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert f"]({name})" in text
    assert "Some &lt;CPU&gt;" in (tmp_path / "report.html").read_text()
    assert "hmn paper --facts F" in text
    verdicts = block_of(blocks, "Verdicts").rows
    numbers = ["1", "2a", "2b", "3", "4", "5", "6a", "6b", "7", "8a", "8b"]
    assert [row[0] for row in verdicts] == numbers
    assert {row[2] for row in verdicts} <= {"holds (one seed)", "does not (one seed)", "undecided"}


def test_what_was_run_the_verdicts_and_figure_1_come_first() -> None:
    runs = [made_run(row, number, seed) for number, row in enumerate(ROWS) for seed in (0, 1)][:-1]
    blocks = report_blocks(runs, FULL, "hmn paper")
    assert [block.heading for block in blocks[1:3]] == ["Verdicts", "Figure 1: convergence"]
    told = blocks[0].text[1]
    assert f"preset full; {len(ROWS)} of {len(ROWS)} rows, 1 to 2 seeds a row; 81,004 facts" in told
    assert "Some <CPU> (2 cores), no accelerator" in told


def test_a_row_that_was_cut_says_so_and_whether_it_was_still_rising() -> None:
    run = {**made_run(ROWS[0], 0), "stopped": "epochs"}
    ended = {**run, "epochs_to_best": 0}
    for one, expected in ((run, "2.0 (cut at 3, still rising)"), (ended, "0.0 (cut at 3)")):
        costs = block_of(report_blocks([one], FULL, ""), "Time and memory")
        assert cell_of(costs, "epochs to the best") == expected


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("clustering", 81_004 // 90),
        ("Top-K with few clusters", 81_004 // 36),
        ("10-MIPS by hmn's clusters with a tenth of the reads", 81_004 // 10),
    ],
)
def test_reads_that_were_missed_have_a_footnote(name: str, reads: int) -> None:
    row = next(row for row in ROWS if row.name == name)
    for share, missed in ((0.92, False), (1.08, False), (0.88, True), (1.12, True)):
        run = made_run(row, 0)
        run["tested"]["valid"]["own"]["reads"] = share * reads
        table = next(
            block for block in report_blocks([run], FULL, "") if "reads" in block.head and block.rows
        )
        at = [line[0] for line in table.rows].index(title_of(name, FULL))
        assert cell_of(table, "reads", at) == f"{share * reads:,.0f}{' †' if missed else ''}"
        assert list(table.notes) == ([FOOTNOTE] if missed else [])


def test_reads_that_one_seed_missed_or_could_not_be_tuned_to_have_a_footnote() -> None:
    row = next(row for row in ROWS if row.name == "clustering")
    runs = [made_run(row, 0, seed) for seed in range(2)]
    own = [run["tested"]["valid"]["own"] for run in runs]

    def notes(*reads: float) -> list[str]:
        for one, value in zip(own, reads, strict=True):
            one["reads"] = value
        return list(block_of(report_blocks(runs, FULL, ""), "Readers in training").notes)

    assert notes(900.0, 900.0) == []
    assert notes(780.0, 1020.0) == [FOOTNOTE], "though their mean is met"
    own[1]["tuned"]["reached"] = False
    assert notes(900.0, 900.0) == [FOOTNOTE]


def test_what_seeds_were_tuned_to_is_told_apart() -> None:
    row = next(row for row in ROWS if row.name == "clustering")
    runs = [made_run(row, 0, seed) for seed in range(3)]
    runs[1]["tested"]["valid"]["own"]["tuned"]["value"] = 2
    table = block_of(report_blocks(runs, FULL, ""), "Readers in training")
    assert (
        cell_of(table, "tuned to", [line[0] for line in table.rows].index("clustering")) == "num_probes 3, 2"
    )


def test_memory_of_an_accelerator_is_shown_where_there_is_one() -> None:
    run = {**made_run(ROWS[0], 0), "accelerator_peak_mib": 2345.6}
    assert cell_of(block_of(report_blocks([run], FULL, ""), "Time and memory"), "accelerator peak MiB") == (
        "2,346"
    )


def test_rows_that_were_not_run_say_so_and_seeds_have_a_spread() -> None:
    row = ROWS[0]
    runs = [made_run(row, 0, seed) for seed in range(3)]
    blocks = report_blocks(runs, PRESETS["quick"], "hmn paper")
    table = block_of(blocks, "Readers in training")
    assert cell_of(table, "ours: fact") == "30.2 ± 0.2"
    assert cell_of(table, "seeds") == "3"
    assert {cell_of(table, "ours: fact", at) for at in range(1, len(table.rows))} == {"not run"}
    assert block_of(blocks, "Strategies against the bias of approximate search, at equal reads").text == [
        "Not run."
    ]
    assert any("say nothing about the paper" in text for text in blocks[0].text)
    (told,) = block_of(blocks, "Machine, versions, seeds").text
    assert told.endswith("2026-01-01; load average 1.5 to 3.5; commit not recorded; seeds 0, 1, 2; 3 runs.")


def test_rows_that_failed_are_listed_with_their_reasons(tmp_path: Path) -> None:
    failed = {"REINFORCE": "RunError: the run\nended | with status 2"}
    write_report(tmp_path, [made_run(ROWS[0], 0)], FULL, "hmn paper", failed=failed)
    reason = "RunError: the run ended | with status 2"
    assert ["REINFORCE", reason] in Page((tmp_path / "report.html").read_text()).rows
    text = (tmp_path / "report.md").read_text()
    assert f"| REINFORCE | {reason.replace('|', chr(92) + '|')} |" in text
    blocks = report_blocks([made_run(ROWS[0], 0)], FULL, "", failed)
    assert "1 failed and is listed below" in blocks[0].text[1]
    baselines = block_of(blocks, "Baselines that the paper talks about and does not run")
    assert [line[1] for line in baselines.rows] == ["failed", "not run"]


def limits_of(*runs: dict[str, Any]) -> str:
    return " ".join(block_of(report_blocks(list(runs), FULL, ""), "Limits").text)


def test_limits_are_those_of_the_data() -> None:
    ours = made_run(ROWS[0], 0)
    told = limits_of(ours)
    assert "81,004 cells (75 % of the paper's 108,442)" in told
    assert "48,737 questions (64 % of its 75,910)" in told
    assert "86.6 %" in told
    assert "98.1 %" in told
    assert "the best epoch is chosen on the questions" in told
    assert "1,234 artificial questions" in told
    assert "Text cells" not in told
    other = {**ours, "facts": 5000, "questions": {"natural": 48_737, "artificial": 0}}
    told = limits_of(other)
    assert "86.6 %" not in told
    assert "artificial questions, one for every fact" not in told
    text = next(row for row in ROWS if row.cells == TEXT)
    assert "selected on the validation questions" in limits_of(made_run(text, 0))
    ours["tested"]["test"] = ours["tested"]["valid"]
    assert "the best epoch is chosen" not in limits_of(ours)


def test_rows_of_another_device_are_told() -> None:
    one, two, other = (made_run(row, 0) for row in (*ROWS[:2], ROWS[-1]))
    assert "another device" not in limits_of(one, two, other)
    assert f"{other['name']}: run on another device (cuda)" in limits_of(
        one, two, {**other, "device": "cuda"}
    )


def test_cells_of_several_trainings_are_told() -> None:
    def told(checksums: list[int]) -> str:
        runs = [
            {**made_run(row, 0), "cells_checksum": one} for row, one in zip(ROWS, checksums, strict=False)
        ]
        return " ".join(block_of(report_blocks([*runs, made_run(ROWS[5], 0)], FULL, ""), "Limits").text)

    assert "2 sets of vectors of one seed" in told([7, 9, 7])
    assert "sets of vectors" not in told([7, 7, 7])


def test_runs_of_one_machine_are_told_together_in_whatever_order_it_was_written() -> None:
    first, second = made_run(ROWS[0], 0), made_run(ROWS[1], 1)
    second["machine"] = dict(reversed(second["machine"].items()))
    other = made_run(ROWS[2], 2)
    other["machine"]["torch"] = "2.14.0"
    told = block_of(report_blocks([first, second, other], FULL, ""), "Machine, versions, seeds").text
    assert [line.rsplit("; ", 1)[1] for line in told] == ["2 runs.", f"1 run ({ROWS[2].name})."]


def test_the_set_up_says_which_facts_the_cells_were_trained_on() -> None:
    for facts, expected in (
        ("memory", "the facts of the memory;"),
        ("more", "memory and of a larger table;"),
    ):
        run = {**made_run(ROWS[0], 0), "transe_facts": facts}
        assert expected in " ".join(block_of(report_blocks([run], FULL, ""), "Set-up").text)


def test_one_seed_and_rows_still_rising_are_explained_once() -> None:
    runs = [made_run(row, number) for number, row in enumerate(ROWS)]
    once = block_of(report_blocks(runs, FULL, ""), "Verdicts")
    assert sum("(one seed)" in note for note in once.notes) == 1
    assert not any("still rising" in note for note in once.notes)
    assert 'class="does-not">does not (one seed)</td>' in as_html([once])
    cut = [{**run, "stopped": "epochs"} for run in runs]
    rising = block_of(report_blocks(cut, FULL, ""), "Verdicts")
    assert {line[2] for line in rising.rows} == {"undecided: still rising"}
    assert [note.partition(":")[0] for note in rising.notes][1:] == ["still rising"]


def test_curves_are_those_of_exact_search_as_far_as_all_seeds_have_trained() -> None:
    runs = [made_run(ROWS[0], 0, seed) for seed in range(2)]
    runs[1]["curve"] = runs[1]["curve"][:2]
    found = common_epochs(Table(runs), ROWS[0].name)
    assert [one["epoch"] for one in found] == [1, 2]
    assert [one["fact"] for one in found] == pytest.approx([0.1505, 0.301])
    assert [one["seconds"] for one in found] == [80.0, 160.0]


def test_a_sweep_is_a_line_from_few_reads_to_many() -> None:
    found = swept(made_run(ROWS[0], 0), "clusters")
    assert [reads for reads, _ in found] == [100.0, 800.0]
    assert [fact for _, fact in found] == pytest.approx([30 * 0.9, 30 * (1 - 1 / 80)])
    assert swept(made_run(ROWS[0], 0), "no such structure") == []


def test_runs_of_several_commits_on_one_machine_are_told_together() -> None:
    runs = [made_run(row, number) for number, row in enumerate(ROWS[:3])]
    runs[1]["machine"]["commit"] = runs[2]["machine"]["commit"] = "abcdef0123456789"
    (told,) = block_of(report_blocks(runs, FULL, ""), "Machine, versions, seeds").text
    assert "; commit not recorded (1), abcdef012345 (2); " in told


def test_limits_tell_that_centroids_take_most_of_the_strategies_reads() -> None:
    run = made_run(next(row for row in ROWS if row.strategy), 0)
    assert "has 2,250 reads, as many for each number of clusters. With 2,000 of them" in limits_of(run)
    assert "reads, as many for each" not in limits_of({**run, "facts": 500_000})
    assert "reads, as many for each" not in limits_of(made_run(ROWS[0], 0))


def test_a_report_of_nothing_can_be_written(tmp_path: Path) -> None:
    write_report(tmp_path, [], FULL, "hmn paper")
    assert "Not run." in (tmp_path / "report.md").read_text()


def test_footnotes_stand_below_the_table() -> None:
    block = Block("One", ["above"], ["a", "b"], [["1", "2|3"]], ["below `code`"])
    assert as_markdown([block]) == "# One\n\nabove\n\n| a | b |\n|---|---|\n| 1 | 2\\|3 |\n\nbelow `code`\n"
    assert "<p>above</p><table>" in as_html([block])
    assert "</table><p>below <code>code</code></p>" in as_html([block])


def test_a_figure_is_kept_in_one_line_with_its_spread() -> None:
    page = as_html([Block("One", [], ["a"], [["2,472 ± 36 †"], ["more: 1 ± 2, 3 ± 4"]])])
    assert '<td class="figure">2,472 ± 36 †</td>' in page
    assert "<td>more: 1 ± 2, 3 ± 4</td>" in page


def test_where_test_questions_were_given_they_are_what_is_reported() -> None:
    run = made_run(ROWS[0], 0)
    run["tested"]["test"] = {how: {**one, "fact": 0.123} for how, one in run["tested"]["valid"].items()}
    blocks = report_blocks([run], FULL, "hmn paper")
    assert any("those of the test questions" in text for text in blocks[0].text)
    assert not any("left out" in text for text in blocks[0].text)
    assert cell_of(block_of(blocks, "Readers in training"), "ours: fact") == "12.3"


def test_runs_that_were_not_asked_the_test_questions_are_left_out() -> None:
    runs = [made_run(ROWS[0], 0, seed) for seed in range(2)] + [made_run(ROWS[1], 1)]
    runs[0]["tested"]["test"] = {
        how: {**one, "fact": 0.123} for how, one in runs[0]["tested"]["valid"].items()
    }
    blocks = report_blocks(runs, FULL, "hmn paper")
    assert "1 of 41 rows, 1 seed a row" in blocks[0].text[1]
    assert "those of the test questions, in per cent. 2 finished runs that were not" in blocks[0].text[2]
    table = block_of(blocks, "Readers in training")
    assert [cell_of(table, "ours: fact", at) for at in range(2)] == ["12.3", "not run"]
    assert cell_of(table, "seeds") == "1"
    assert "the best epoch is chosen" not in limits_of(*runs)
