from __future__ import annotations

from typing import Any

from tests.paper.report.made_runs import FULL, block_of, made_run

from hmn.paper.grid import ROWS, TEXT
from hmn.paper.report.report import report_blocks


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
        ("memory", "the facts of the memory."),
        ("more", "memory and of a larger table."),
    ):
        run = {**made_run(ROWS[0], 0), "transe_facts": facts}
        assert expected in " ".join(block_of(report_blocks([run], FULL, ""), "Set-up").text)


def test_runs_of_several_commits_on_one_machine_are_told_together() -> None:
    runs = [made_run(row, number) for number, row in enumerate(ROWS[:3])]
    runs[1]["machine"]["commit"] = runs[2]["machine"]["commit"] = "abcdef0123456789"
    (told,) = block_of(report_blocks(runs, FULL, ""), "Machine, versions, seeds").text
    assert "; commit not recorded (1), abcdef012345 (2); " in told


def test_limits_tell_that_centroids_take_most_of_the_strategies_reads() -> None:
    run = made_run(next(row for row in ROWS if row.strategy), 0)
    assert "may spend 2,250 reads at either number of clusters. With 2,000 clusters" in limits_of(run)
    assert "at either number of clusters" not in limits_of({**run, "facts": 500_000})
    assert "at either number of clusters" not in limits_of(made_run(ROWS[0], 0))
