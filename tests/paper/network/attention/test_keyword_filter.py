from __future__ import annotations

import random

import numpy as np
import torch
from tests.paper.made import made_keys

from hmn.facts.table import FactTable
from hmn.nn.memory.stored import Memory
from hmn.paper.cells.fixed import one_per_fact
from hmn.paper.network.attention.keyword_filter import LEAST, LONGEST, RARE, KeywordFilter
from hmn.paper.network.attention.keywords import KeywordAttention
from hmn.paper.network.question_words import Asked, Vocabulary
from hmn.qa.words.letters import words

PIECES = ["red", "old", "tom", "sea", "king", "lake", "the"]


def table() -> FactTable:
    """Names of few words, so that many are shared; some entities have two, one has none."""
    rng = random.Random(5)
    names = {
        f"e{entity}": [" ".join(rng.choices(PIECES, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 2))]
        for entity in range(60)
    }
    del names["e7"]
    rows = {(f"e{rng.randrange(60)}", f"r{rng.randrange(9)}", f"e{rng.randrange(60)}") for _ in range(150)}
    return FactTable.from_triples(sorted(rows), names)


def inside(gram: list[str], text: list[str]) -> bool:
    return any(text[at : at + len(gram)] == gram for at in range(len(text) - len(gram) + 1))


def brute_force(facts: FactTable, question: str) -> list[int]:
    asked, found = words(question), set()
    names = [[words(name) for name in facts.names_of(int(subject))] for subject in facts.subject]
    for size in range(1, LONGEST + 1):
        for start in range(len(asked) - size + 1):
            gram = asked[start : start + size]
            having = [fact for fact in range(len(facts)) if any(inside(gram, name) for name in names[fact])]
            if 0 < len(having) <= max(LEAST, len(facts) // RARE):
                found |= set(having)
    return sorted(found)


def test_facts_that_share_a_rare_ngram_are_found_and_no_others() -> None:
    facts = table()
    rng = random.Random(6)
    questions = [" ".join(rng.choices([*PIECES, "who", "where"], k=rng.randint(1, 7))) for _ in range(60)]
    questions += ["", "e7", "what is zanzibar"]
    found = KeywordFilter(facts).facts_for(questions)
    expected = [brute_force(facts, question) for question in questions]
    assert [found.row(row).tolist() for row in range(len(questions))] == expected
    sizes = [len(row) for row in expected]
    assert min(sizes) == 0 < max(sizes) < len(facts)


def test_a_question_reads_the_best_of_its_own_facts_and_trains_on_those_of_its_batch() -> None:
    facts = table()
    cells, keys = one_per_fact(facts), made_keys(facts)
    attention = KeywordAttention(Memory(keys), facts, cells)
    texts = [facts.names_of(int(facts.subject[fact]))[0] for fact in (3, 40, 77)] + ["zanzibar"]
    query = torch.randn(4, keys.shape[1], generator=torch.Generator().manual_seed(1))
    found = attention.search(query, texts, 5)
    own = [brute_force(facts, text) for text in texts]
    for row, facts_of_row in enumerate(own):
        best = sorted(facts_of_row, key=lambda fact: -float(query[row] @ keys[fact]))[:5]
        assert [cell for cell in found.cell[row].tolist() if cell >= 0] == best
        assert float(found.reads[row]) == len(facts_of_row)
    asked = Asked.of(texts, [3, 40, 77, 100], Vocabulary(texts), facts, cells)
    loss, size = attention.loss(query, asked, np.arange(4), torch.Generator())
    candidates = sorted({3, 40, 77, 100}.union(*own))
    assert size == len(candidates)
    logit = query @ keys[candidates].T
    target = torch.tensor([candidates.index(fact) for fact in (3, 40, 77, 100)])
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(logit, target), atol=1e-5)
