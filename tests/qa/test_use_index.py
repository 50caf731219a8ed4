"""A trained model searched with another index or read with a strategy."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.qa.small import CLUSTER, figures

from hmn.errors import ConfigError, NotFittedError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.structures.exact import ExactIndex
from hmn.index.structures.wta_hash import WTAHashIndex
from hmn.nn.candidates.search import StrategySearch
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Outcome

Split = tuple[QuestionSet, QuestionSet]


def test_another_index_over_the_same_memory(saved: Path, small_split: Split, tmp_path: Path) -> None:
    qa = FactoidQA.from_pretrained(saved)
    own, cells = qa.evaluate(small_split[1]), len(qa.cells)
    exact = qa.use_index("exact").evaluate(small_split[1])
    assert exact.reads == exact.cells_scored == cells > own.reads
    assert isinstance(qa.network.reader.index, ExactIndex)
    assert qa.config.strategy == "k-mips", "exact search has no clusters to train with"
    fewer = qa.use_index("cluster:num_clusters=20,num_probes=1").evaluate(small_split[1])
    assert fewer.reads < own.reads
    qa.save_pretrained(tmp_path / "other")
    again = FactoidQA.from_pretrained(tmp_path / "other")
    assert again.config.index == "cluster:num_clusters=20,num_probes=1"
    assert figures(again.evaluate(small_split[1])) == figures(fewer)
    given = FactoidQA.from_pretrained(saved, index="cluster:num_clusters=20,num_probes=1")
    assert figures(given.evaluate(small_split[1])) == figures(fewer)


def test_reads_are_those_of_reading_k_cells(saved: Path, small_split: Split) -> None:
    """Ranks need a deeper search, which scores more cells in full and is not what a question costs."""
    qa = FactoidQA.from_pretrained(saved, index="cluster:num_clusters=20,num_probes=20")
    found = qa.evaluate(small_split[1])
    wanted = qa.network.reader.index.search(qa.encode(small_split[1].text), qa.config.k)
    assert found.cells_scored == 2 * qa.config.k + 16 == float(wanted.cells_scored[0])
    assert found.reads == pytest.approx(float(wanted.reads.mean()))
    exact = FactoidQA.from_pretrained(saved, index="exact").evaluate(small_split[1])
    assert found.mrr == pytest.approx(exact.mrr) and found.fact_accuracy == exact.fact_accuracy


def test_questions_for_which_nothing_is_found_count_as_wrong(saved: Path, small_split: Split) -> None:
    """With 16^8 buckets, those of most questions are empty; unused places of a result are no facts."""
    qa = FactoidQA.from_pretrained(saved, index="wta-hash:num_tables=1,num_permutations=8,prefix=16")
    index = qa.network.reader.index
    assert isinstance(index, WTAHashIndex)
    index.fills = False
    outcomes: list[Outcome] = []
    found = qa.evaluate(small_split[1], outcomes=outcomes)
    cells = index.search(qa.encode(small_split[1].text), 1).cell[:, 0]
    empty = [outcome for outcome, cell in zip(outcomes, cells.tolist(), strict=True) if cell < 0]
    assert empty
    assert all(
        (outcome.fact, outcome.pair, outcome.answer, outcome.recalled, len(outcome.best)) == (0, 0, 0, 0, 0)
        for outcome in empty
    )
    assert found.fact_accuracy is not None and found.fact_accuracy <= 1 - len(empty) / len(outcomes)
    nothing = small_split[1].text[int((cells < 0).nonzero()[0])]
    assert qa.ask(nothing) == []


def test_a_strategy_at_test_time_reads_its_candidates(saved: Path, small_split: Split) -> None:
    qa = FactoidQA.from_pretrained(saved, strategy="top-k:1+sample-k:1")
    searcher = qa.network.reader.searcher
    assert isinstance(searcher, StrategySearch)
    found, whole = qa.evaluate(small_split[1]), len(qa.cells)
    assert 20 < found.reads < whole and found.reads == pytest.approx(found.cells_scored + 20)
    assert figures(qa.evaluate(small_split[1])) == figures(found), "drawn again, the same"
    together = qa.ask_all(small_split[1].text[:8])
    for text, answers in zip(small_split[1].text, together, strict=False):
        assert [one.facts for one in qa.ask(text)] == [one.facts for one in answers], "alone, the same"
    everything = qa.use_index(strategy="top-k:20").evaluate(small_split[1])
    exact = FactoidQA.from_pretrained(saved, index="exact").evaluate(small_split[1])
    assert everything.cells_scored == whole and everything.fact_accuracy == exact.fact_accuracy
    plain = qa.use_index(strategy="k-mips")
    assert plain.network.reader.searcher is plain.network.indexed


def test_an_index_or_strategy_that_cannot_be_is_refused(saved: Path, small_facts: FactTable) -> None:
    qa = FactoidQA.from_pretrained(saved)
    for index, strategy, message in [
        ("clusters", None, "there is no index 'clusters'"),
        ("cluster:codes=int3", None, "codes is 'int3'"),
        ("exact", "top-k:2", "needs an index of clusters, got ExactIndex"),
        (None, "top:2", "unknown part 'top'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            qa.use_index(index, strategy)
        assert qa.config.index == CLUSTER and len(qa.network.reader.searcher) == len(qa.cells)
    with pytest.raises(NotFittedError):
        FactoidQA(small_facts).use_index("cluster")
