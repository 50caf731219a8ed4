from __future__ import annotations

import base64
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.paper.report.made_runs import FULL, block_of, cell_of, made_run

from hmn.paper.grid import KEYWORDS, KMIPS, ROWS, TABLES, title_of
from hmn.paper.preset import PRESETS
from hmn.paper.report.columns import MISSING
from hmn.paper.report.document import as_html
from hmn.paper.report.report import report_blocks, write_report


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


@pytest.mark.slow
@pytest.mark.usefixtures("real_figures")
def test_the_report_holds_every_row_with_the_papers_figure_beside_ours(
    tmp_path: Path, draw_at_once: Callable[[], None]
) -> None:
    runs = [made_run(row, number) for number, row in enumerate(ROWS)]
    write_report(tmp_path, runs, FULL, "hmn paper --facts F")
    page, text = Page((tmp_path / "report.html").read_text()), (tmp_path / "report.md").read_text()
    draw_at_once()
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
    numbers = ["1", "2a", "2b", "3a", "3b", "4", "5", "6a", "6b", "7", "8a", "8b"]
    assert [row[0] for row in verdicts] == numbers
    assert {row[2] for row in verdicts} <= {"holds (one seed)", "does not hold (one seed)", "undecided"}


def test_what_was_run_the_verdicts_and_figure_1_come_first() -> None:
    runs = [made_run(row, number, seed) for number, row in enumerate(ROWS) for seed in (0, 1)][:-1]
    blocks = report_blocks(runs, FULL, "hmn paper")
    assert [block.heading for block in blocks[1:3]] == ["Verdicts", "Figure 1: convergence"]
    text = blocks[0].text[1]
    assert f"Preset full: {len(ROWS)} of {len(ROWS)} rows, 1 to 2 seeds per row; 81,004 facts" in text
    assert "Some <CPU> (2 cores), no accelerator" in text


def test_rows_that_were_not_run_say_so_and_seeds_have_a_spread() -> None:
    row = ROWS[0]
    runs = [made_run(row, 0, seed) for seed in range(3)]
    blocks = report_blocks(runs, PRESETS["quick"], "hmn paper")
    table = block_of(blocks, "Readers in training")
    assert cell_of(table, "ours: fact") == "30.2 ± 0.2"
    assert cell_of(table, "seeds") == "3"
    assert {cell_of(table, "ours: fact", at) for at in range(1, len(table.rows))} == {"not run yet"}
    assert block_of(blocks, "Strategies against the bias of approximate search, at equal reads").text == [
        "Not run yet."
    ]
    assert any("say nothing about the paper" in text for text in blocks[0].text)
    (text,) = block_of(blocks, "Machine, versions, seeds").text
    assert text.endswith("2026-01-01; load average 1.5 to 3.5; commit not recorded; seeds 0, 1, 2; 3 runs.")


def test_rows_with_more_reads_stand_below_those_with_few_whether_or_not_they_were_run() -> None:
    names = [row.name for row in ROWS if row.table in {"table1", "speed-up"}]
    runs = [made_run(row, at) for at, row in enumerate(ROWS) if row.name in names and row.name != names[-1]]
    table = block_of(report_blocks(runs, FULL, ""), TABLES["speed-up"])
    assert [line[0] for line in table.rows] == [
        part for name in names[-3:] for part in (name.partition(" at ")[0], name)
    ]
    assert [cell_of(table, "paper: accuracy", at) for at in range(6)] == [
        *("51.5", "51.5", "32.4", "32.4", "40.2", "40.2")
    ]
    assert [cell_of(table, "ours: fact", at) == "not run yet" for at in range(6)] == [False] * 5 + [True]
    assert any("is 5.4 times fewer than the paper's 108,442 cells" in text for text in table.text)
    before = block_of(report_blocks(runs[:1], FULL, ""), TABLES["speed-up"])
    assert before.text[0] == "Not run yet."


def test_rows_that_failed_are_listed_with_their_reasons(tmp_path: Path) -> None:
    failed = {"REINFORCE": "RunError: the run\nended | with status 2"}
    write_report(tmp_path, [made_run(ROWS[0], 0)], FULL, "hmn paper", failed=failed)
    reason = "RunError: the run ended | with status 2"
    assert ["REINFORCE", reason] in Page((tmp_path / "report.html").read_text()).rows
    text = (tmp_path / "report.md").read_text()
    assert f"| REINFORCE | {reason.replace('|', chr(92) + '|')} |" in text
    blocks = report_blocks([made_run(ROWS[0], 0)], FULL, "", failed)
    assert "1 failed and is listed below" in blocks[0].text[1]
    baselines = block_of(blocks, "Baselines that the paper discusses but does not run")
    assert [line[1] for line in baselines.rows] == ["failed", "not run yet"]


def test_one_seed_and_rows_still_rising_are_explained_once() -> None:
    runs = [made_run(row, number) for number, row in enumerate(ROWS)]
    once = block_of(report_blocks(runs, FULL, ""), "Verdicts")
    assert sum("(one seed)" in note for note in once.notes) == 1
    assert not any("still rising" in note for note in once.notes)
    assert 'class="does-not">does not hold (one seed)</td>' in as_html([once])
    cut = [{**run, "stopped": "epochs"} for run in runs]
    rising = block_of(report_blocks(cut, FULL, ""), "Verdicts")
    assert {line[2] for line in rising.rows} == {"undecided: still rising"}
    assert [note.partition(":")[0] for note in rising.notes][1:] == ["still rising"]


def test_a_report_of_nothing_can_be_written(tmp_path: Path) -> None:
    write_report(tmp_path, [], FULL, "hmn paper")
    assert "Not run yet." in (tmp_path / "report.md").read_text()


def test_where_test_questions_were_given_they_are_what_is_reported() -> None:
    run = made_run(ROWS[0], 0)
    run["tested"]["test"] = {how: {**one, "fact": 0.123} for how, one in run["tested"]["valid"].items()}
    blocks = report_blocks([run], FULL, "hmn paper")
    assert "in per cent, on the test questions." in blocks[0].text[2]
    assert not any("left out" in text for text in blocks[0].text)
    assert cell_of(block_of(blocks, "Readers in training"), "ours: fact") == "12.3"


def test_runs_that_were_not_asked_the_test_questions_are_left_out() -> None:
    runs = [made_run(ROWS[0], 0, seed) for seed in range(2)] + [made_run(ROWS[1], 1)]
    runs[0]["tested"]["test"] = {
        how: {**one, "fact": 0.123} for how, one in runs[0]["tested"]["valid"].items()
    }
    blocks = report_blocks(runs, FULL, "hmn paper")
    assert "1 of 44 rows, 1 seed per row" in blocks[0].text[1]
    assert "in per cent, on the test questions. 2 finished runs are left out" in blocks[0].text[2]
    table = block_of(blocks, "Readers in training")
    assert [cell_of(table, "ours: fact", at) for at in range(2)] == ["12.3", "not run yet"]
    assert cell_of(table, "seeds") == "1"
    assert "the best epoch is chosen" not in " ".join(block_of(blocks, "Limits").text)
