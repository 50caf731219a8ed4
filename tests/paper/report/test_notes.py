from __future__ import annotations

from typing import Any

from tests.paper.report.made_runs import FULL, block_of, made_run

from hmn.paper.grid import ROWS, TEXT
from hmn.paper.report.report import report_blocks


def limits_of(*runs: dict[str, Any]) -> str:
    return " ".join(block_of(report_blocks(list(runs), FULL, ""), "Limits").text)


def test_limits_are_those_of_the_data() -> None:
    ours = made_run(ROWS[0], 0)
    text = limits_of(ours)
    assert "81,004 cells (75 % of the paper's 108,442)" in text
    assert "48,737 questions (64 % of its 75,910)" in text
    assert "86.6 %" in text
    assert "98.1 %" in text
    assert "the best epoch is chosen on the questions" in text
    assert "1,234 artificial questions" in text
    assert "Text cells" not in text
    other = {**ours, "facts": 5000, "questions": {"natural": 48_737, "artificial": 0}}
    text = limits_of(other)
    assert "86.6 %" not in text
    assert "artificial questions, one for every fact" not in text
    on_text_cells = next(row for row in ROWS if row.cells == TEXT)
    assert "selected on the validation questions" in limits_of(made_run(on_text_cells, 0))
    ours["tested"]["test"] = ours["tested"]["valid"]
    assert "the best epoch is chosen" not in limits_of(ours)


def test_rows_of_another_device_are_reported() -> None:
    one, two, other = (made_run(row, 0) for row in (*ROWS[:2], ROWS[-1]))
    assert "another device" not in limits_of(one, two, other)
    assert f"{other['name']}: run on another device (cuda)" in limits_of(
        one, two, {**other, "device": "cuda"}
    )


def test_cells_of_several_trainings_are_reported() -> None:
    def text(checksums: list[int]) -> str:
        runs = [
            {**made_run(row, 0), "cells_checksum": one} for row, one in zip(ROWS, checksums, strict=False)
        ]
        return " ".join(block_of(report_blocks([*runs, made_run(ROWS[5], 0)], FULL, ""), "Limits").text)

    assert "2 sets of vectors of one seed" in text([7, 9, 7])
    assert "sets of vectors" not in text([7, 7, 7])


def test_runs_of_one_machine_are_reported_together_in_whatever_order_it_was_written() -> None:
    first, second = made_run(ROWS[0], 0), made_run(ROWS[1], 1)
    second["machine"] = dict(reversed(second["machine"].items()))
    other = made_run(ROWS[2], 2)
    other["machine"]["torch"] = "2.14.0"
    text = block_of(report_blocks([first, second, other], FULL, ""), "Machine, versions, seeds").text
    assert [line.rsplit("; ", 1)[1] for line in text] == ["2 runs.", f"1 run ({ROWS[2].name})."]


def test_the_set_up_says_which_facts_the_cells_were_trained_on() -> None:
    for facts, expected in (
        ("memory", "the facts of the memory."),
        ("more", "memory and of a larger table."),
    ):
        run = {**made_run(ROWS[0], 0), "transe_facts": facts}
        assert expected in " ".join(block_of(report_blocks([run], FULL, ""), "Set-up").text)


def test_runs_of_several_commits_on_one_machine_are_reported_together() -> None:
    runs = [made_run(row, number) for number, row in enumerate(ROWS[:3])]
    runs[1]["machine"]["commit"] = runs[2]["machine"]["commit"] = "abcdef0123456789"
    (text,) = block_of(report_blocks(runs, FULL, ""), "Machine, versions, seeds").text
    assert "; commit not recorded (1), abcdef012345 (2); " in text


def test_limits_tell_that_centroids_take_most_of_the_strategies_reads() -> None:
    run = made_run(next(row for row in ROWS if row.strategy), 0)
    assert "may spend 2,250 reads at either number of clusters. With 2,000 clusters" in limits_of(run)
    assert "at either number of clusters" not in limits_of({**run, "facts": 500_000})
    assert "at either number of clusters" not in limits_of(made_run(ROWS[0], 0))
