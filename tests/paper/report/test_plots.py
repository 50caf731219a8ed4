from __future__ import annotations

import pytest
from tests.paper.report.made_runs import made_run

from hmn.paper.grid import ROWS
from hmn.paper.report.plots import common_epochs, swept
from hmn.paper.verdicts.table import Table


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
