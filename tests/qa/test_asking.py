"""What a trace shows of an answer."""

from __future__ import annotations

import pytest

from hmn.errors import DataError
from hmn.qa.factoid_qa import FactoidQA


def test_a_trace_has_the_answers_and_what_they_were_made_from(clustered: FactoidQA) -> None:
    fact = clustered.facts.fact(0)
    question = f"where was {fact.subject_name} born?"
    trace, answers = clustered.trace(question, 3), clustered.ask(question, 3)
    assert [answer.facts for answer in trace.answers] == [answer.facts for answer in answers]
    assert (trace.answers.known, trace.answers.reads) == (answers.known, answers.reads)
    assert trace.answers[0].probability == pytest.approx(answers[0].probability, rel=1e-5)
    (search,) = trace.searches
    assert search.cells == len(clustered.cells)
    assert search.tiers[0].groups == 20
    assert search.reads == answers.reads
    weights = [one.weight for one in trace.attended]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    assert len(search.places) == len(weights)
    best = trace.attended[0]
    assert best.fact.subject_name == answers[0].facts[0].subject_name
    facts = [clustered.facts.fact(row) for row in range(len(clustered.facts))]
    alike = [f for f in facts if (f.subject_name, f.relation) == (best.fact.subject_name, best.fact.relation)]
    assert best.facts == len(alike)


def test_a_question_without_a_word_is_refused(clustered: FactoidQA) -> None:
    with pytest.raises(DataError, match="no word"):
        clustered.trace("?!")
