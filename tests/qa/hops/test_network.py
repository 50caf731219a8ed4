"""Questions of one and two steps about a small world, from training to answers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.qa.hops.world import table
from tests.qa.small import SIZES, contents

from hmn.errors import ConfigError, NonFiniteError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.answer import Answers
from hmn.qa.config import ModelConfig, settings_of
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.hops.network import HopNetwork, about
from hmn.qa.sweep.measure import run_sweep

PHRASES = {
    ("lives in",): "in which town does [{}] live",
    ("lives in", "lies in"): "in which country lies the town where [{}] lives",
    ("friend", "lives in"): "in which towns do the friends of [{}] live",
    ("friend",): "who are the friends of [{}]",
}


def rows(facts: FactTable, *, brackets: bool = True) -> list[tuple[str, list[str]]]:
    """All questions of these phrases with their answers, which never are the person that is asked about."""
    found = []
    for chain, phrase in PHRASES.items():
        for person in (f"person {number}" for number in range(40)):
            reached = {person}
            for relation in chain:
                reached = {
                    facts.fact(int(fact)).object
                    for entity in reached
                    for fact in np.flatnonzero(facts.subject == facts.entity_number(entity))
                    if facts.fact(int(fact)).relation == relation
                } - {person}
            if reached:
                text = phrase.format(person)
                found.append((text if brackets else text.replace("[", "").replace("]", ""), sorted(reached)))
    return found


@pytest.fixture(scope="module")
def world() -> FactTable:
    return table()


@pytest.fixture(scope="module")
def trained(world: FactTable) -> FactoidQA:
    asked = rows(world)
    held_out = [number for number in range(len(asked)) if number % 4 == 0]
    train = [row for number, row in enumerate(asked) if number not in held_out]
    valid = [asked[number] for number in held_out]
    qa = FactoidQA(world, hops=2, **{**SIZES, "hidden": 24, "word_features": 24}, dropout=0.0)
    return qa.fit(
        QuestionSet.from_rows(world, train),
        QuestionSet.from_rows(world, valid),
        quiet=True,
        epochs=30,
        batch_size=32,
        learning_rate=0.01,
        warmup=10,
        renew_steps=20,
        patience=30,
        relation_words=0.0,
    )


@pytest.fixture(scope="module")
def held_out(world: FactTable) -> QuestionSet:
    return QuestionSet.from_rows(world, rows(world)[::4])


def test_questions_of_one_and_of_two_steps_are_answered(trained: FactoidQA, held_out: QuestionSet) -> None:
    found = trained.evaluate(held_out)
    assert found.answer_accuracy > 0.9
    assert found.hop_reads is not None and len(found.hop_reads) == 2
    assert found.reads == pytest.approx(sum(found.hop_reads))
    assert trained.evaluate(held_out, topics=False).answer_accuracy > 0.8


def test_reads_of_exact_search_are_all_cells_for_each_entity(trained: FactoidQA, world: FactTable) -> None:
    asked = about(["in which towns do the friends of [person 3] live"], world, trained.config)
    assert isinstance(trained.network, HopNetwork)
    with torch.no_grad():
        chains = trained.network.read(asked, trained.config.k)
    followed = chains.beams[0].strongest(trained.config.beam, 1e-6)
    assert chains.reads.tolist() == [[len(trained.cells), len(followed) * len(trained.cells)]]


def test_answers_are_sets_with_a_chain_for_each(trained: FactoidQA, world: FactTable) -> None:
    text, expected = next(
        row for row in rows(world) if row[0] == PHRASES["friend", "lives in"].format("person 3")
    )
    best = trained.ask(text)[0]
    assert sorted(best.answers) == expected
    for name, chain in zip(best.answers, best.chains, strict=True):
        assert [fact.relation for fact in chain] == ["friend", "lives in"]
        assert chain[0].subject == "person 3"
        assert chain[1].subject == chain[0].object
        assert chain[1].object == name
    assert sum(best.probabilities) == pytest.approx(best.probability)


def test_a_question_without_brackets_finds_its_topic(trained: FactoidQA, world: FactTable) -> None:
    asked = rows(world, brackets=False)
    right = [set(trained.ask(text)[0].answers) == set(answers) for text, answers in asked]
    assert np.mean(right) > 0.8


@pytest.mark.parametrize(
    "index", ["cluster:num_clusters=10,num_probes=10", "hierarchy:num_groups=16,reach=200"]
)
def test_other_indexes_find_the_same(
    trained: FactoidQA, held_out: QuestionSet, index: str, tmp_path: Path
) -> None:
    exact = trained.evaluate(held_out).answer_accuracy
    trained.save_pretrained(tmp_path / "model")
    other = FactoidQA.from_pretrained(tmp_path / "model", index=index)
    assert other.evaluate(held_out).answer_accuracy == pytest.approx(exact, abs=0.02)


def test_saved_models_answer_the_same(trained: FactoidQA, world: FactTable, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "model")
    loaded = FactoidQA.from_pretrained(tmp_path / "model")
    for text, _ in rows(world)[::20]:
        assert_same(loaded.ask(text), trained.ask(text))


def assert_same(answers: Answers, wanted: Answers) -> None:
    """The same answers. Stored cells are read in place, encoded ones copied, and each rounds in its way."""
    assert [each.answers for each in answers] == [each.answers for each in wanted]
    assert [each.chains for each in answers] == [each.chains for each in wanted]
    probabilities = [each.probability for each in wanted]
    assert [each.probability for each in answers] == pytest.approx(probabilities, rel=1e-4, abs=1e-6)


def test_a_trace_shows_the_search_of_each_hop(trained: FactoidQA, world: FactTable) -> None:
    for text, _ in rows(world, brackets=False)[::40]:
        trace, answers = trained.trace(text), trained.ask(text)
        assert trace.answers == answers
        assert trace.searches[0].queries == 1
        assert sum(search.reads for search in trace.searches) == pytest.approx(answers.reads)
        assert trace.attended == []


def test_models_of_before_reading_could_decide_answer_the_same(
    world: FactTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = QuestionSet.from_rows(world, rows(world)[::4])
    old = FactoidQA(world, hops=2, **SIZES).fit(questions, quiet=True, epochs=2)

    def without_setting(config: ModelConfig) -> dict[str, Any]:
        return {name: value for name, value in settings_of(config).items() if name != "stop_by"}

    monkeypatch.setattr("hmn.qa.saved_model.settings_of", without_setting)
    old.save_pretrained(tmp_path / "model")
    loaded = FactoidQA.from_pretrained(tmp_path / "model")
    assert loaded.config.stop_by == "words"
    for text, _ in rows(world)[::20]:
        assert_same(loaded.ask(text), old.ask(text))


@pytest.mark.parametrize("stop_by", ["words", "reading"])
def test_lost_weight_says_nothing_only_where_words_decide(world: FactTable, stop_by: str) -> None:
    questions = QuestionSet.from_rows(world, rows(world)[::4])
    qa = FactoidQA(world, hops=2, stop_by=stop_by, **SIZES).fit(questions, quiet=True, epochs=1)
    assert isinstance(qa.network, HopNetwork)
    asked = about(["in which town does [person 3] live"], world, qa.config)
    assert qa.network.read(asked, qa.config.k).scaled == (stop_by == "words")


def test_more_hops_than_in_training(trained: FactoidQA, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "model")
    longer = FactoidQA.from_pretrained(tmp_path / "model").use_hops(3)
    assert longer.config.hops == 3
    assert longer.ask("in which town does [person 3] live")
    longer.save_pretrained(tmp_path / "longer")
    assert FactoidQA.from_pretrained(tmp_path / "longer").config.hops == 3
    with pytest.raises(ConfigError, match="hops is 0"):
        longer.use_hops(0)


@pytest.mark.parametrize("brackets", [True, False])
def test_keys_that_are_no_numbers_are_an_error(trained: FactoidQA, brackets: bool) -> None:
    broken = copy.deepcopy(trained)
    with torch.no_grad():
        broken.memory.encoder.own.fill_(torch.nan)  # type: ignore[operator, union-attr]
    name = "[person 3]" if brackets else "person 3"
    with pytest.raises(NonFiniteError, match="NaN"):
        broken.ask(f"in which towns do the friends of {name} live")


def test_a_model_of_several_hops_keeps_several(
    trained: FactoidQA, held_out: QuestionSet, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="hops is 1, expected at least 2"):
        trained.use_hops(1)
    assert trained.config.hops == 2
    with pytest.raises(ConfigError, match="expected a single one"):
        run_sweep(trained, held_out, tmp_path)


def test_an_interrupted_training_goes_on_to_the_same_model(world: FactTable, tmp_path: Path) -> None:
    train, valid = (QuestionSet.from_rows(world, rows(world)[first::4]) for first in (0, 1))

    def model(folder: str, stop: int | None = None) -> FactoidQA:
        def on_progress(done: int, total: int) -> None:  # noqa: ARG001
            if done == stop:
                raise KeyboardInterrupt

        settings = {"epochs": 2, "batch_size": 16, "checkpoint_seconds": 0.0}
        return FactoidQA(world, hops=2, **SIZES).fit(
            train, valid, out=tmp_path / folder, resume=True, quiet=True, on_progress=on_progress, **settings
        )

    straight = model("straight")
    with pytest.raises(KeyboardInterrupt):
        model("resumed", stop=4)
    resumed = model("resumed")
    assert contents(tmp_path / "straight") == contents(tmp_path / "resumed")
    assert resumed.history == straight.history


def test_a_model_of_one_hop_has_no_other(clustered: FactoidQA) -> None:
    with pytest.raises(ConfigError, match="single hop"):
        clustered.use_hops(2)


def test_facts_that_come_later_are_followed(trained: FactoidQA, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "model")
    later = FactoidQA.from_pretrained(tmp_path / "model")
    asked = "in which country lies the town where [person 99] lives"
    later.add_facts([("person 99", "lives in", "new town"), ("new town", "lies in", "country 4")])
    assert later.ask(asked)[0].answers == ["country 4"]
    later.save_pretrained(tmp_path / "later")
    assert FactoidQA.from_pretrained(tmp_path / "later").ask(asked)[0].answers == ["country 4"]
    later.remove_facts([("new town", "lies in", "country 4")])
    assert "country 4" not in later.ask(asked)[0].answers
