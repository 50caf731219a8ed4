"""Two-step questions: their answers follow from the facts, and what is held out is held out."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from tests.qa.demo.test_walks import by_search

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.demo.phrases import PHRASINGS
from hmn.qa.demo.two_steps import (
    FIRST_STEPS,
    SAMPLE_QUESTIONS,
    TWO_STEPS,
    TwoStepQuestions,
    backward_facts,
    composed_phrasings,
    two_step_questions,
    write_two_steps,
)
from hmn.qa.demo.walks import HopQuestion, Walks, question_set
from hmn.qa.demo.world import World, bare

# From an atlas, not from the packages: kind and name of the topic, steps, names of all answers.
ATLAS = [
    (
        "country",
        "Austria",
        ("neighbour", "capital"),
        "Berlin Bern Bratislava Budapest Ljubljana Prague Rome Vaduz",
    ),
    ("country", "Zambia", ("currency", "code"), "ZMW"),
    ("city", "Ljubljana", ("~capital", "neighbour"), "Austria Croatia Hungary Italy"),
    ("city", "Toulouse", ("country", "currency"), "Euro"),
    ("city", "Nairobi", ("country", "calling_code"), "+254"),
    ("airport", "Narita International Airport", ("country", "capital"), "Tokyo"),
    ("currency", "Swiss Franc", ("~currency", "capital"), "Bern Vaduz"),
    ("subdivision", "Tirol", ("country", "capital"), "Vienna"),
    ("county", "Cook County", ("state", "iso_code"), "US-IL"),
]


@pytest.fixture(scope="module")
def questions(world: World) -> TwoStepQuestions:
    return two_step_questions(world)


def parts(questions: TwoStepQuestions) -> dict[str, list[HopQuestion]]:
    return {name: getattr(questions, name) for name in ("train", "valid", "entities", "phrasings")}


def every(questions: TwoStepQuestions) -> dict[str, list[HopQuestion]]:
    return {**parts(questions), "first_steps": questions.first_steps}


def wordings(group: str) -> dict[tuple[str, tuple[str, ...]], set[str]]:
    return {
        (kind, steps): {bare(text) for text in getattr(phrasings, group)}
        for kind, steps, phrasings in TWO_STEPS
    }


def without_topic(question: HopQuestion) -> str:
    return bare(
        question.text[: question.text.index("[")] + "{}" + question.text[question.text.rindex("]") + 1 :]
    )


def test_sizes_and_texts(questions: TwoStepQuestions) -> None:
    assert {name: len(part) for name, part in parts(questions).items()} == {
        "train": 4000,
        "valid": 400,
        "entities": 500,
        "phrasings": 500,
    }
    assert len(questions.first_steps) == 500
    texts = [bare(question.text) for part in every(questions).values() for question in part]
    assert len(set(texts)) == len(texts)
    for name, part in parts(questions).items():
        forms = Counter((question.topic.split("/")[0], question.steps) for question in part)
        assert set(forms) == {(kind, steps) for kind, steps, _ in TWO_STEPS}, name
        assert min(forms.values()) >= len(part) / len(forms) / 4, name


def test_answers_follow_from_the_facts(world: World, questions: TwoStepQuestions) -> None:
    by_step = defaultdict(list)
    for row in world.triples:
        by_step[row[1].partition("/")[2]].append(row)
    rng = random.Random(0)
    for part in every(questions).values():
        for question in rng.sample(part, 10):
            facts = [
                row for step in {step.removeprefix("~") for step in question.steps} for row in by_step[step]
            ]
            assert set(question.answers) == by_search(facts, question.topic, question.steps)
            assert question.topic not in question.answers
            assert list(question.answers) == sorted(set(question.answers)) != []


def test_answers_agree_with_an_atlas(world: World, walks: Walks) -> None:
    for kind, name, steps, answers in ATLAS:
        assert (kind, steps) in {(kind, steps) for kind, steps, _ in TWO_STEPS}
        entities = [entity for entity, names in world.names.items() if names[0] == name]
        reached = [walks.reached(entity, steps) for entity in entities if entity.startswith(f"{kind}/")]
        named = [{world.names[entity][0] for entity in ends} for ends in reached]
        assert {answer.replace("_", " ") for answer in answers.split()} in named


def test_no_other_entity_is_meant(world: World, walks: Walks, questions: TwoStepQuestions) -> None:
    topics = {question.topic for part in parts(questions).values() for question in part}
    names = {name.casefold() for topic in topics for name in world.names[topic]}
    bearers = defaultdict(set)
    for entity, texts in world.names.items():
        for text in texts:
            if text.casefold() in names:
                bearers[text.casefold()].add(entity)
    for part in parts(questions).values():
        for question in part:
            name = question.text[question.text.index("[") + 1 : question.text.rindex("]")].casefold()
            assert question.topic in bearers[name]
            for other in bearers[name] - {question.topic}:
                assert not walks.reached(other, question.steps)


def test_topics_and_phrasings_are_held_out(world: World, walks: Walks, questions: TwoStepQuestions) -> None:
    topics = {name: {question.topic for question in part} for name, part in parts(questions).items()}
    tested = topics["entities"] | topics["phrasings"]
    assert not topics["train"] & (topics["valid"] | tested)
    assert not topics["valid"] & tested
    assert not {subject for subject, *_ in world.train} & (topics["valid"] | tested)
    composed = {
        (kind, steps): {bare(text) for text in composed_phrasings(kind, steps, walks.leads_to())}
        for kind, steps, _ in TWO_STEPS
    }
    known = wordings("train")
    used = {"train": known, "valid": wordings("valid"), "entities": known, "phrasings": wordings("held_out")}
    put_together = 0
    for name, part in parts(questions).items():
        for question in part:
            form, text = (question.topic.split("/")[0], question.steps), without_topic(question)
            if text not in used[name][form]:
                assert name == "train" and text in composed[form]
                put_together += 1
    assert 0.4 < put_together / len(questions.train) < 0.6
    said = [texts for group in (composed, known) for texts in group.values()]
    held_out = set[str]().union(*wordings("held_out").values())
    assert not held_out & set[str]().union(*said, *used["valid"].values())
    assert not set[str]().union(*said) & set[str]().union(*used["valid"].values())


def test_first_steps_are_asked_about_topics_of_training_in_no_held_out_phrasing(
    world: World, questions: TwoStepQuestions
) -> None:
    held_out = {bare(text) for relation in PHRASINGS.values() for text in relation.held_out}
    tested = {
        question.topic for name in ("valid", "entities", "phrasings") for question in parts(questions)[name]
    }
    tested |= {subject for part in (world.valid, world.test) for subject, *_ in part}
    asked = set()
    for question in questions.first_steps:
        assert without_topic(question) not in held_out
        assert question.topic not in tested
        (step,) = question.steps
        asked.add(f"{question.topic.split('/')[0]}/{step}")
    assert asked == set(FIRST_STEPS)


def test_parts_of_phrasings_are_said_in_training() -> None:
    """What is put together in training holds no wording that is in held-out phrasings only."""
    for form, phrases in FIRST_STEPS.items():
        kind, _, step = form.partition("/")
        said = " ".join(
            text
            for topic, steps, phrasings in TWO_STEPS
            for text in phrasings.train
            if (topic, steps[0]) == (kind, step)
        ).lower()
        for phrase in phrases:
            assert all(word in said for word in phrase.lower().split())


def test_no_phrasing_stands_for_two_walks_or_is_in_both_groups() -> None:
    kinds = defaultdict(list)
    for kind, steps, phrasings in TWO_STEPS:
        assert len(steps) == 2
        assert len(phrasings.train) >= 4
        assert len(phrasings.held_out) >= 2
        assert len(phrasings.valid) == 2
        for phrasing in (*phrasings.train, *phrasings.valid, *phrasings.held_out):
            assert phrasing.count("{}") == 1
            assert not set(phrasing) & set("[]")
            kinds[kind].append(bare(phrasing))
    for used in kinds.values():
        assert len(set(used)) == len(used)


def test_samples_are_clear_and_never_trained_on(
    world: World, walks: Walks, questions: TwoStepQuestions
) -> None:
    trained = {question.topic for question in (*questions.train, *questions.valid)}
    spoken = [
        e
        for e, names in world.names.items()
        if any(n.casefold() in " ".join(SAMPLE_QUESTIONS).casefold() for n in names)
    ]
    for sample in SAMPLE_QUESTIONS:
        [topic] = [
            entity
            for kind, steps, phrasings in TWO_STEPS
            for phrasing in phrasings.train
            for entity in spoken
            if entity.startswith(kind + "/") and walks.reached(entity, steps)
            for name in world.names[entity]
            if bare(phrasing.replace("{}", name)) == bare(sample)
        ]
        assert topic not in trained


def test_question_sets(world: World, questions: TwoStepQuestions) -> None:
    some = questions.phrasings[:50]
    needed = {entity for question in some for entity in (question.topic, *question.answers)}
    triples = [row for row in world.triples if needed & {row[0], row[2]}]
    facts = FactTable.from_triples(triples, inverse=True)
    found = question_set(facts, some)
    assert [facts.entities[int(topic)].as_py() for topic in found.topic] == [
        question.topic for question in some
    ]
    for row, question in enumerate(some):
        assert tuple(facts.entities[int(entity)].as_py() for entity in found.answers(row)) == question.answers
    assert not found.unknown.total


def test_what_is_written_can_be_read_back(world: World, questions: TwoStepQuestions, tmp_path: Path) -> None:
    write_two_steps(questions, tmp_path)
    facts = FactTable.from_triples([*world.triples, *backward_facts(world.triples)], world.names)
    written = {path.name: path for path in tmp_path.iterdir()}
    for name, part in every(questions).items():
        file = {"entities": "test", "first_steps": "first-steps"}.get(name, name)
        read, expected = (
            QuestionSet.read(written.pop(f"two-steps-{file}.tsv"), facts),
            question_set(facts, part),
        )
        assert read.text == expected.text
        assert (read.answer == expected.answer).all() and (read.answer_start == expected.answer_start).all()
        clear = read.topic >= 0  # a name alone does not say which of its bearers is meant
        assert (read.topic[clear] == expected.topic[clear]).all() and clear.mean() > 0.5
    assert not written


def test_only_what_is_followed_backwards_has_an_inverse(world: World) -> None:
    backwards = backward_facts(world.triples)
    assert {relation for _, relation, _ in backwards} == {
        "~country/capital",
        "~country/currency",
        "~country/language",
    }
    forwards = {(value, relation[1:], subject) for subject, relation, value in backwards}
    assert forwards < set(world.triples) and len(forwards) == len(backwards)
    assert ("currency/CHF", "~country/currency", "country/LI") in backwards


SMALL = """
import json, pathlib, sys
from hmn.qa.demo.chains import chain_questions
from hmn.qa.demo.two_steps import two_step_questions
from hmn.qa.demo.world import World
triples, names = json.loads(pathlib.Path(sys.argv[1]).read_text())
world, sizes = World([tuple(row) for row in triples], names, [], [], []), dict(train=40, valid=10, test=10)
written = [two_step_questions(world, 3, first_steps=20, **sizes), chain_questions(world, 3, hops=2, **sizes)]
"""


def test_another_process_with_another_hash_seed_writes_the_same(world: World, tmp_path: Path) -> None:
    kept = {subject for subject, *_ in world.triples[::40]}
    kept |= {entity for entity in world.names if entity.startswith(("country/", "currency/"))}
    triples = [row for row in world.triples if row[0] in kept]
    names = {entity: world.names[entity] for row in triples for entity in (row[0], row[2])}
    (tmp_path / "facts.json").write_text(json.dumps([triples, names]))
    printed = {
        subprocess.run(
            [sys.executable, "-c", f"{SMALL}\nprint(written)", tmp_path / "facts.json"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            timeout=120,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert printed.pop().count("HopQuestion") == 40 + 20 + 10 + 2 * 10 + 2 * 40 + 2 * 10 + 3 * 10
