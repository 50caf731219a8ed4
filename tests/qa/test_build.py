"""A network has what its configuration says."""

from __future__ import annotations

from tests.qa.small import fitted

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.nn.candidates.strategy import Strategy

Split = tuple[QuestionSet, QuestionSet]


def test_the_strategy_of_a_model_has_its_k(small_facts: FactTable, small_split: Split) -> None:
    qa = fitted(small_facts, small_split, index="cluster", strategy="k-mips+rand-block:9", k=4, epochs=1)
    assert qa.network.reader.strategy == Strategy(best_cells=4, rand_block=9)  # type: ignore[attr-defined]
