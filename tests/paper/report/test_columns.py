from __future__ import annotations

import pytest
from tests.paper.report.made_runs import FULL, block_of, cell_of, made_run

from hmn.paper.grid import ROWS, title_of
from hmn.paper.report.prose import paragraph
from hmn.paper.report.report import report_blocks

FOOTNOTE = paragraph("captions", "missed reads")


def test_a_row_that_was_cut_says_so_and_whether_it_was_still_rising() -> None:
    run = {**made_run(ROWS[0], 0), "stopped": "epochs"}
    ended = {**run, "epochs_to_best": 0}
    for one, expected in ((run, "2.0 (cut at 3, still rising)"), (ended, "0.0 (cut at 3)")):
        costs = block_of(report_blocks([one], FULL, ""), "Time and memory")
        assert cell_of(costs, "epochs to best") == expected


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("clustering", 81_004 // 90),
        ("Top-K with few clusters", 81_004 // 36),
        ("10-MIPS by hmn's clusters with a tenth of the reads", 81_004 // 10),
        ("PCA-Tree at the paper's speed-up", 15_000),
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


def test_what_seeds_were_tuned_to_is_listed_by_seed() -> None:
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
