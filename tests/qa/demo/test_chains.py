"""Chains of steps: their answers follow from the facts, and the test goes one step further than training."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from tests.qa.demo.test_walks import by_search

from hmn.qa.demo.chains import OPENINGS, SAME_PLACE, STEPS, Chains, chain_questions, step_chains
from hmn.qa.demo.walks import HopQuestion, Walks
from hmn.qa.demo.world import World, bare

SIZES = {"train": 600, "valid": 60, "test": 120}


@pytest.fixture(scope="module")
def chains(world: World) -> Chains:
    return chain_questions(world, **SIZES)


def all_of(chains: Chains) -> dict[tuple[str, int], list[HopQuestion]]:
    return {(part, hops): asked for part in SIZES for hops, asked in getattr(chains, part).items()}


def test_sizes_and_texts(chains: Chains) -> None:
    sizes = {where: len(asked) for where, asked in all_of(chains).items()}
    assert sizes == {
        **{(part, hops): SIZES[part] for part in SIZES for hops in (1, 2, 3)},
        ("test", 4): SIZES["test"],
    }
    texts = [bare(question.text) for asked in all_of(chains).values() for question in asked]
    assert len(set(texts)) == len(texts)
    for (_, hops), asked in all_of(chains).items():
        assert {len(question.steps) for question in asked} == {hops}
    kinds = Counter(question.topic.split("/")[0] for question in chains.train[2])
    assert min(kinds.values()) >= 10
    assert len(kinds) == 7
    assert any(step.startswith("~") for question in chains.test[4] for step in question.steps)


def test_answers_follow_from_the_facts(world: World, chains: Chains) -> None:
    by_step = defaultdict(list)
    for row in world.triples:
        by_step[row[1].partition("/")[2]].append(row)
    rng = random.Random(0)
    for asked in all_of(chains).values():
        for question in rng.sample(asked, 5):
            facts = [
                row for step in {step.removeprefix("~") for step in question.steps} for row in by_step[step]
            ]
            assert set(question.answers) == by_search(facts, question.topic, question.steps)
            assert question.topic not in question.answers
            assert question.answers


def test_texts_say_their_steps(chains: Chains) -> None:
    """Peel the phrases off again, from the outside in."""

    def peeled(text: str, steps: tuple[str, ...]) -> bool:
        if not steps:
            return text.startswith(("[", "the [")) and text.endswith("]")
        for phrase in STEPS[steps[-1]]:
            before, after = phrase.casefold().split("{}")
            inner = text[len(before) : len(text) - len(after)]
            if text == before + inner + after and peeled(inner, steps[:-1]):
                return True
        return False

    for asked in all_of(chains).values():
        for question in asked:
            texts = [
                bare(question.text)[len(bare(opening).split("{}")[0]) :]
                for opening in OPENINGS
                if bare(question.text).startswith(bare(opening).split("{}")[0])
            ]
            assert any(peeled(text, question.steps) for text in texts), question


def test_topics_are_held_out(world: World, chains: Chains) -> None:
    topics = {
        part: {question.topic for asked in getattr(chains, part).values() for question in asked}
        for part in SIZES
    }
    assert not topics["train"] & topics["valid"]
    assert not topics["train"] & topics["test"]
    assert not topics["valid"] & topics["test"]
    assert not {subject for subject, *_ in world.train} & topics["test"]


def test_step_chains(world: World, walks: Walks) -> None:
    found = step_chains(walks, 3)
    assert [len(found[hops]) > 30 for hops in (1, 2, 3)] == [True] * 3
    assert {step for _, steps in found[1] for step in steps} == set(STEPS), "each step can be the first"
    for chains in found.values():
        assert len(set(chains)) == len(chains)
    pairs = {steps for _, steps in found[2]}
    assert ("capital", "~capital") not in pairs
    assert ("~currency", "currency") not in pairs
    assert {("currency", "~currency"), ("neighbour", "neighbour"), ("~language", "language")} <= pairs
    assert not {tuple(pair) for pair in SAME_PLACE} & pairs
    spoken = {step.removeprefix("~") for step in STEPS}
    assert spoken == {relation.partition("/")[2] for _, relation, _ in world.triples}
