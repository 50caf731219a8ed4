from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason='the report needs Matplotlib: pip install "hmn[paper]"')

from hmn.paper.preset import PRESETS
from hmn.paper.report import report_blocks, title_of, write_report
from hmn.paper.rows import ROWS, Row

FULL = PRESETS["full"]


def made_run(row: Row, number: int, seed: int = 0) -> dict[str, Any]:
    def tested(fact: float) -> dict[str, Any]:
        return {"questions": 900, "fact": fact, "pair": fact + 0.05, "reads": 500.0 + number, "recall": 0.75}

    fact = 0.3 + 0.01 * number + 0.002 * seed
    searches = {"own": tested(fact), "exact": tested(fact + 0.1)}
    if row.also_tested_with:
        searches["other"] = tested(fact - 0.1)
    return {
        "name": row.name,
        "table": row.table,
        "seed": seed,
        "date": "2026-01-01",
        "facts": 81_004,
        "questions": {"natural": 48_737, "artificial": 1234},
        "machine": {"processor": "Some <CPU>", "cores": 2, "accelerator": None, "torch": "2.13.0"},
        "softmax_size": 4321.4,
        "seconds_a_step": 0.1234,
        "seconds_an_epoch": 77.5,
        "epochs_to_best": 2,
        "peak_mib": 1500.2,
        "curve": [{"epoch": epoch, "fact": fact * epoch / 2, "seconds": 80.0 * epoch} for epoch in (1, 2, 3)],
        "tested": {"valid": searches},
    }


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
    lines = {row[0]: row for row in page.rows}
    for number, row in enumerate(ROWS):
        line = lines[title_of(row.name, FULL)]
        assert line[2] == f"{100 * (0.3 + 0.01 * number):.1f}"
        assert line[3] == ("the same" if row.exact else f"{100 * (0.4 + 0.01 * number):.1f}")
        assert line[4] == f"{100 * (0.35 + 0.01 * number):.1f}"
        unit = " (keys alone)" if "keyword" in row.name else " (list entries)" if row.name == "BM25" else ""
        assert line[6:8] == ["4,321", f"{500 + number}{unit}"]
        assert line[8:] == ["0.750", "0.123", "77.5", "2.0", "1,500", "1"]
        assert "| " + " | ".join(line) + " |" in text
    assert lines["exact 10-MIPS"][1:6:4] == ["62.2", "1,290"]
    assert lines["Top-K with 1,000 clusters"][1] == "50.2 (r)"
    assert lines["REINFORCE"][1] == "–"
    assert page.fetched == []
    assert len(page.images) == 2
    for image, name in zip(page.images, ("convergence.png", "reads.png"), strict=True):
        data = base64.b64decode(image.removeprefix("data:image/png;base64,"))
        assert data == (tmp_path / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert f"]({name})" in text
    assert "Some &lt;CPU&gt;" in (tmp_path / "report.html").read_text()
    assert "81,004 cells (75 % of the paper's 108,442)" in text
    assert "48,737 questions (64 % of its 75,910)" in text
    assert "hmn paper --facts F" in text
    assert "no test questions were given" in text
    verdicts = [row for row in page.rows if re.fullmatch("[1-7]", row[0])]
    assert len(verdicts) == 7
    assert {row[2] for row in verdicts} <= {"holds", "does not", "undecided"}


def test_a_row_that_was_cut_says_so() -> None:
    run = {**made_run(ROWS[0], 0), "stopped": "epochs"}
    table = next(block for block in report_blocks([run], FULL, "") if block.heading == "Readers in training")
    assert table.rows[0][11] == "2.0 (cut at 3)"


def test_rows_that_were_not_run_say_so_and_seeds_have_a_spread() -> None:
    row = ROWS[0]
    runs = [made_run(row, 0, seed) for seed in range(3)]
    blocks = report_blocks(runs, PRESETS["quick"], "hmn paper")
    table = next(block for block in blocks if block.heading == "Readers in training")
    assert table.rows[0][2] == "30.2 ± 0.2"
    assert table.rows[0][-1] == "3"
    assert {line[2] for line in table.rows[1:]} == {"not run"}
    assert any("say nothing about the paper" in text for block in blocks for text in block.text)
    assert any("seeds 0, 1, 2" in text for block in blocks for text in block.text)


def test_a_report_of_nothing_can_be_written(tmp_path: Path) -> None:
    write_report(tmp_path, [], FULL, "hmn paper")
    assert "Not run." in (tmp_path / "report.md").read_text()


def test_where_test_questions_were_given_they_are_what_is_reported() -> None:
    run = made_run(ROWS[0], 0)
    run["tested"]["test"] = {how: {**one, "fact": 0.123} for how, one in run["tested"]["valid"].items()}
    blocks = report_blocks([run], FULL, "hmn paper")
    assert any("those of the test questions" in text for text in blocks[0].text)
    table = next(block for block in blocks if block.heading == "Readers in training")
    assert table.rows[0][2] == "12.3"
