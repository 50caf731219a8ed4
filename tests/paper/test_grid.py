from __future__ import annotations

import pytest

from hmn.errors import ConfigError
from hmn.paper.grid import ROWS, TABLES, chosen, named
from hmn.paper.preset import PRESETS


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


def test_rows_can_be_called_by_their_titles_in_the_report() -> None:
    given = "Top-K with 1,000 clusters, table1,10-MIPS by clusters,,Top-K with many clusters"
    rows = ["Top-K with few clusters", "table1", "10-MIPS by clusters", "Top-K with many clusters"]
    assert named(given, PRESETS["full"]) == rows
    assert named("", PRESETS["full"]) == []
    assert named("Top-K with 40 clusters", PRESETS["quick"]) == rows[:1]
