from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz.bundles import SIZES

from hmn.errors import DataError
from hmn.facts.changing import ChangingTable
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA
from hmn.serve.writes.net_change import NetChange
from hmn.serve.writes.operations import Operation, checked

RELATIONS = ["person/job", "person/born_in", "person/likes", "place of birth <P19>", "P19"]


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose table has the inverse of each fact."""
    triples = [(f"p{n}", relation, f"x{n % 4}") for n in range(6) for relation in RELATIONS[:2]]
    facts = FactTable.from_triples(triples, {f"p{n}": [f"person {n}"] for n in range(6)}, inverse=True)
    rows = [(*triple, f"the {triple[1]} of person {triple[0][1:]}") for triple in triples]
    model = FactoidQA(facts, k=4, **SIZES).fit(
        QuestionSet.from_rows(facts, rows), quiet=True, epochs=1, batch_size=8, recall=0.0, made_questions=0
    )
    model.save_pretrained(tmp_path_factory.mktemp("both") / "model")
    return tmp_path_factory.getbasetemp() / "both0" / "model"


def drawn(rng: random.Random) -> Operation:
    """An operation on few facts, so that they meet again and again."""
    facts = [
        [f"p{rng.randrange(7)}", rng.choice(RELATIONS), f"{rng.choice('xyp')}{rng.randrange(4)}"]
        for _ in range(rng.randrange(1, 4))
    ]
    if rng.random() < 0.2:
        facts = [[o, "~" + r, s] for s, r, o in facts]
    kind = rng.choice(["add", "add", "remove", "remove", "replace"])
    given: dict[str, Any] = {kind: facts}
    if kind == "remove":
        given["ignore_missing"] = rng.random() < 0.5
    elif rng.random() < 0.4:
        entity = rng.choice(rng.choice(facts)[::2])
        given["names"] = {entity: [f"name {rng.randrange(3)}" for _ in range(rng.randrange(1, 3))]}
    return checked([given])[0]


def done(model: FactoidQA, operation: Operation) -> Any:
    if operation.kind == "remove":
        return model.remove_facts(operation.facts, ignore_missing=operation.ignore_missing)
    change = model.add_facts if operation.kind == "add" else model.replace_facts
    return change(operation.facts, operation.names)


def content(model: FactoidQA) -> tuple[list[Any], list[list[str]]]:
    """The facts of a model, and all names of their entities."""
    table = model.facts.settled().facts if isinstance(model.facts, ChangingTable) else model.facts
    return [table.fact(cell) for cell in range(len(table))], [
        table.names_of(entity) for entity in range(table.num_entities)
    ]


def answered(model: FactoidQA) -> list[dict[Any, float]]:
    """Facts and probability of each answer when all cells are read; equal cells have no order."""
    questions = [f"what is the job of person {n}" for n in range(7)] + ["who likes y1", "name 2"]
    return [
        {tuple(answer.facts): answer.probability for answer in answers}
        for answers in model.ask_all(questions, 500)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_many_writes_at_once_do_what_they_do_one_by_one(trained: Path, both_ways: Path, seed: int) -> None:
    rng = random.Random(seed)
    bundle = both_ways if seed % 2 else trained
    one_by_one, at_once = FactoidQA.from_pretrained(bundle), FactoidQA.from_pretrained(bundle)
    for _ in range(4):
        change = NetChange(at_once.facts)
        for _ in range(rng.randrange(1, 25)):
            operation = drawn(rng)
            try:
                expected = done(one_by_one, operation)
            except DataError as error:
                with pytest.raises(DataError) as caught:
                    change.take([operation])
                assert str(caught.value).split(", expected")[0] == str(error).split(", expected")[0]
            else:
                assert change.take([operation]) == expected
        change.apply(at_once)
        assert content(at_once) == content(one_by_one)
    for own, other in zip(answered(at_once), answered(one_by_one), strict=True):
        assert own == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_write_that_is_refused_leaves_no_trace(trained: Path, both_ways: Path, seed: int) -> None:
    rng = random.Random(seed)
    bundle = both_ways if seed % 2 else trained
    clean, tried = FactoidQA.from_pretrained(bundle), FactoidQA.from_pretrained(bundle)
    bad = Operation("remove", [("nobody", "person/job", "x0")])
    without, with_refused = NetChange(clean.facts), NetChange(tried.facts)
    for _ in range(30):
        operation = drawn(rng)
        with pytest.raises(DataError):
            with_refused.take([drawn(rng), operation, drawn(rng), bad])
        if operation.kind == "remove":
            operation = Operation("remove", operation.facts, ignore_missing=True)
        assert with_refused.take([operation]) == without.take([operation])
    without.apply(clean)
    with_refused.apply(tried)
    assert content(tried) == content(clean)


def test_all_facts_at_once_are_not_removed(trained: Path) -> None:
    model = FactoidQA.from_pretrained(trained)
    facts = [model.facts.fact(cell)[:3] for cell in range(len(model.facts))]
    change = NetChange(model.facts)
    change.take([Operation("remove", facts[1:])])
    with pytest.raises(DataError, match="no fact would be left"):
        change.take([Operation("remove", facts[:1])])
    change.take([Operation("add", [("a", "b", "c")]), Operation("remove", facts[:1])])
    change.apply(model)
    assert [fact[:3] for fact in content(model)[0]] == [("a", "b", "c")]
