from __future__ import annotations

import pytest

from hmn.errors import ConfigError
from hmn.paper.grid import BESIDE, ROWS, TABLES, chosen, named
from hmn.paper.network.attention.search_budget import target_reads
from hmn.paper.preset import PRESETS
from hmn.paper.verdicts.compared import FAMILIES_AT_SPEED_UP


def test_tables_and_rows_are_chosen_by_name() -> None:
    assert {row.table for row in ROWS} == set(TABLES)
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert not any("," in row.name for row in ROWS), "--only has commas between names"
    assert all(row.cells != "text" for row in chosen([], text=False))
    assert [row.name for row in chosen(["REINFORCE", "summed"], text=False)] == [
        "REINFORCE",
        "full softmax on summed cells",
        "exact 10-MIPS on summed cells",
    ]
    assert len(chosen(["table2"], text=False)) == 10
    assert [row.name for row in chosen(["table1", "text"], text=True)][-1] == "keyword filter on text cells"
    with pytest.raises(ConfigError, match="'text' needs text cells"):
        chosen(["table1", "text"], text=False)
    with pytest.raises(ConfigError, match="table9"):
        chosen(["table9"], text=False)
    with pytest.raises(ConfigError, match="--model"):
        chosen(["text"], text=False)


def test_the_papers_structures_come_again_with_more_reads() -> None:
    rows = chosen(["speed-up"], text=False)
    assert {row.name for row in rows} == set(FAMILIES_AT_SPEED_UP) == BESIDE.keys()
    for row in rows:
        few = BESIDE[row.name]
        assert (row.reader, row.k, row.cells, row.strategy) == (few.reader, few.k, few.cells, few.strategy)
        assert row.name == f"{few.name} at the paper's speed-up"
        assert target_reads(PRESETS["full"], 81_004, row.speed_up) == 15_000
        assert target_reads(PRESETS["full"], 81_004, few.speed_up) == 900


def test_rows_can_be_called_by_their_titles_in_the_report() -> None:
    given = "Top-K with 1,000 clusters, table1,10-MIPS by clusters,,Top-K with many clusters"
    rows = ["Top-K with few clusters", "table1", "10-MIPS by clusters", "Top-K with many clusters"]
    assert named(given, PRESETS["full"]) == rows
    assert named("", PRESETS["full"]) == []
    assert named("Top-K with 40 clusters", PRESETS["quick"]) == rows[:1]
