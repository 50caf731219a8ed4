"""Judging the answers of several hops: facts that are taken out in reading, and facts that are removed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.qa.hops.test_network import rows
from tests.qa.hops.world import table, triples
from tests.qa.small import SIZES

from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged
from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.hops.evaluate import BATCH
from hmn.qa.hops.network import HopNetwork, about
from hmn.qa.hops.reader import Without
from hmn.qa.known.chain_judge import ChainJudge


@pytest.fixture(scope="module")
def qa() -> FactoidQA:
    facts = table()
    model = FactoidQA(facts, hops=2, **{**SIZES, "k": 1000})
    return model.fit(QuestionSet.from_rows(facts, rows(facts)), quiet=True, epochs=6, learning_rate=0.01)


@pytest.mark.parametrize("hop", [0, 1])
def test_facts_that_lead_to_the_answers_are_passed_over_as_if_they_were_removed(hop: int) -> None:
    """In a table without inverses, so that no other facts are removed with them."""
    facts = FactTable.from_triples(triples())
    asked = [row for row in rows(facts) if "do the friends" not in row[0]]
    model = FactoidQA(facts, hops=2, **SIZES, k=1000)
    model.fit(QuestionSet.from_rows(facts, asked), quiet=True, epochs=1)
    text, answers = rows(facts, brackets=False)[0]
    gone = np.array([facts.entity_number(answer) for answer in answers])
    changed = copy.deepcopy(model)
    changed.remove_facts([facts.fact(int(cell))[:3] for cell in np.flatnonzero(np.isin(facts.object, gone))])

    def weights(qa: FactoidQA, without: Without | None) -> dict[tuple[str, str], float]:
        """Weights by the names of first and last entity."""
        network = qa.network
        assert isinstance(network, HopNetwork)
        with torch.no_grad():
            chains = network.read(about([text], qa.facts, qa.config), len(qa.cells), without=without)
        beam = chains.beams[hop]
        start, end = (
            [qa.facts.names_of(int(entity))[0] for entity in part] for part in (beam.start, beam.entity)
        )
        return dict(zip(zip(start, end, strict=True), beam.weight.tolist(), strict=True))

    passed_over = weights(model, Without(Ragged.of([np.zeros(0, np.int64)]), Ragged.of([gone])))
    assert passed_over and not {end for _, end in passed_over} & set(answers)
    assert passed_over == pytest.approx(weights(changed, None), rel=1e-3, abs=1e-6)
    assert passed_over.keys() != weights(model, None).keys()


def test_answers_of_several_hops_are_judged(qa: FactoidQA) -> None:
    assert isinstance(qa.judge, ChainJudge)
    questions = [text for text, _ in rows(qa.facts, brackets=False)]
    known = [found.known_probability or 0.0 for found in qa.ask_all(questions)]
    strange = qa.ask_all(["who wrote the song about the yellow submarine", "when is the next full moon"])
    assert max(found.known_probability or 0.0 for found in strange) < np.median(known)
    for found in strange:
        total = sum(answer.probability for answer in found)
        assert total <= (found.known_probability or 0.0) + 1e-6


@pytest.mark.parametrize("topics", [True, False])
def test_figures_say_how_many_answers_count_as_known(qa: FactoidQA, topics: bool) -> None:
    changed, asked = copy.deepcopy(qa), [text for text, _ in rows(qa.facts, brackets=topics)]
    batches = [asked[first : first + BATCH] for first in range(0, len(asked), BATCH)]  # which decide ties
    probability = np.sort([found.known_probability for batch in batches for found in qa.ask_all(batch)])
    middle = slice(len(asked) // 4, 3 * len(asked) // 4)
    widest = middle.start + int(np.diff(probability[middle]).argmax())
    assert changed.judge is not None
    changed.judge.head.thresholds.fill_(float(probability[widest : widest + 2].mean()))
    found = changed.evaluate(QuestionSet.from_rows(qa.facts, rows(qa.facts)), topics=topics)
    assert found.known_share == (len(asked) - widest - 1) / len(asked)


def test_a_saved_model_judges_the_same(qa: FactoidQA, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("saved") / "model"
    qa.save_pretrained(folder)
    loaded = FactoidQA.from_pretrained(folder)
    texts = [text for text, _ in rows(qa.facts, brackets=False)][:5]
    before, after = ([found.known_probability for found in model.ask_all(texts)] for model in (qa, loaded))
    assert after == pytest.approx(before, rel=1e-4)
