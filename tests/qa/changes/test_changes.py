"""Facts that are added, removed and replaced after training."""

from __future__ import annotations

import copy
import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.qa.small import CLUSTER, INDEXES, SIZES, TRAINING, Split, figures, fitted, index_named

from hmn.errors import DataError, NotFittedError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.answer import Answer
from hmn.qa.asking import make_judge
from hmn.qa.build import build_network
from hmn.qa.cells import Cells
from hmn.qa.changes.changes import FactChange
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.factoid_qa import FactoidQA

ADA = ("ada_lovelace", "person/born_in", "london")
BORN = "where was ada lovelace born"
VERSION_0_1 = Path(__file__).parents[2] / "data" / "version-0.1"
Triple = tuple[str, str, str]


@pytest.fixture(scope="module")
def trained(small_facts: FactTable, small_split: Split) -> FactoidQA:
    return fitted(small_facts, small_split)


@pytest.fixture
def qa(trained: FactoidQA) -> FactoidQA:
    return copy.deepcopy(trained)


def best(qa: FactoidQA, question: str = BORN) -> Answer:
    return qa.ask(question)[0]


def triples_in(qa: FactoidQA) -> set[Triple]:
    return {qa.facts.fact(cell)[:3] for cell in range(qa.facts.num_cells) if qa.facts.holds(np.array([cell]))}


def at_once(qa: FactoidQA, triples: set[Triple], names: dict[str, list[str]]) -> FactoidQA:
    """The model that knows exactly these facts from the beginning, with the weights of another."""
    made = FactoidQA(FactTable.from_triples(sorted(triples), names), **SIZES)
    made.config = qa.config
    made.cells = Cells.of(made.facts, objects=qa.cells.object is not None)
    made._network = build_network(qa.config, made.facts, made.cells)
    ours, theirs = qa.memory.encoder, made.memory.encoder
    assert isinstance(ours, FactEncoder) and isinstance(theirs, FactEncoder)
    weights = {name: value for name, value in qa.network.state_dict().items() if "own" not in name}
    made._network.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for number, relation in enumerate(made.facts.relations):
            theirs.own[number] = ours.own[qa.facts.relations.index(relation)]
    made.memory.renew()
    if qa.judge is not None:
        made.judge = make_judge(made.network, made.config.k, qa.judge.head)
    return made


def assert_same(found: list[Answer], wanted: list[Answer], tolerance: float = 1e-5) -> None:
    assert [one.facts for one in found] == [one.facts for one in wanted]
    assert [one.count for one in found] == [one.count for one in wanted]
    np.testing.assert_allclose(
        [one.probability for one in found], [one.probability for one in wanted], atol=tolerance
    )


def test_a_fact_is_answered_at_once(qa: FactoidQA, tmp_path: Path) -> None:
    before = qa.memory.snapshot().clone()
    assert best(qa).facts[0].subject != "ada_lovelace"
    assert qa.add_facts([ADA]) == FactChange(added=1, removed=0, unchanged=0)
    assert best(qa).facts[0][:3] == ADA and best(qa).facts[0].object_name == "london"
    torch.testing.assert_close(qa.memory.snapshot()[: len(before)], before, rtol=0, atol=0)
    assert qa.add_facts([ADA, ADA]) == FactChange(0, 0, 1), "once is as good as twice"
    assert qa.replace_facts([("ada_lovelace", "person/born_in", "paris")]) == FactChange(1, 1, 0)
    assert best(qa).answers == ["paris"]
    both = [("ada_lovelace", "person/born_in", city) for city in ("paris", "rome")]
    assert qa.replace_facts(both) == FactChange(1, 0, 1) and best(qa).answers == ["paris", "rome"]
    assert qa.remove_facts([both[1]]) == FactChange(0, 1, 0) and best(qa).answers == ["paris"]
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model")
    assert best(again).answers == ["paris"] and len(again.facts) == len(qa.facts)
    qa.remove_facts([both[0]])
    assert all(fact.subject != "ada_lovelace" for one in qa.ask(BORN) for fact in one.facts)


def test_facts_of_one_cell_come_and_go_one_by_one(qa: FactoidQA) -> None:
    """Two people of one name share a cell; what is left of it is answered, what was removed never again."""
    names = {"p1": ["Ada Lovelace"], "p2": ["ada, lovelace."]}
    facts = [
        (person, "person/born_in", city) for person, city in (("p1", "rome"), ("p1", "oslo"), ("p2", "bonn"))
    ]
    qa.add_facts(facts, names)
    assert len(qa.cells.facts.row(len(qa.cells) - 1)) == 3
    answers = {tuple(one.answers): one.probability for one in qa.ask(BORN)[:2]}
    assert answers[("oslo", "rome")] == pytest.approx(2 * answers[("bonn",)], rel=1e-4)
    qa.remove_facts([facts[0]])
    assert [one.answers for one in qa.ask(BORN)[:2]] == [["oslo"], ["bonn"]]
    qa.remove_facts([facts[1]])
    assert best(qa).answers == ["bonn"] and ["oslo"] not in [one.answers for one in qa.ask(BORN)]
    qa.remove_facts([facts[2]])
    assert not qa.cells.facts.row(len(qa.cells) - 1).tolist() and qa.memory.gaps == {len(qa.cells) - 1}
    qa.add_facts([facts[1]])
    assert best(qa).answers == ["oslo"] and not qa.memory.gaps


def test_facts_that_tie_are_in_the_order_of_their_ids(qa: FactoidQA, tmp_path: Path) -> None:
    """However they came: so a model answers in the same order when it was saved."""
    for person, city in (("zoe", "rome"), ("amy", "oslo"), ("kim", "bonn")):
        qa.add_facts([(person, "person/born_in", city)], {person: ["Ada Lovelace"]})
    assert [one.answers for one in qa.ask(BORN)[:3]] == [["oslo"], ["bonn"], ["rome"]]
    qa.add_facts([("zoe", "person/born_in", "bergen"), ("zoe", "person/born_in", "aachen")])
    assert best(qa).answers == ["aachen", "bergen", "rome"]
    qa.save_pretrained(tmp_path / "model")
    assert_same(FactoidQA.from_pretrained(tmp_path / "model").ask(BORN), qa.ask(BORN))


CHANGED = {"exact": "exact", "cluster": "cluster:num_clusters=20,num_probes=20"}
CHANGED["pca-tree"] = "pca-tree:leaf_size=16,num_leaves=99"
CASES = [(name, False) for name in ["exact", *INDEXES]] + [("exact", True), ("cluster", True)]


@pytest.mark.parametrize(("index", "objects"), CASES)
def test_a_model_that_changed_is_the_model_of_its_facts(
    index: str, objects: bool, qa: FactoidQA, with_objects: FactoidQA, tmp_path: Path
) -> None:
    """After many changes it answers as one that knows the same facts from the beginning; so when saved."""
    qa = with_objects if objects else qa
    qa.use_index(CHANGED.get(index) or index_named(index), recall=0)
    wanted, names = changed_at_random(qa)
    assert triples_in(qa) == wanted and len(qa.facts) == len(wanted)
    held = qa.network.indexed.index.search(qa.encode(ASKED), len(qa.cells)).cell.unique()
    assert set(held.tolist()) - {-1} <= set(np.flatnonzero(qa.cells.facts.length).tolist()), "no empty cell"
    for answers in qa.ask_all(ASKED, 10):
        assert all(fact[:3] in wanted for one in answers for fact in one.facts)
    if index in CHANGED:  # which find all that exact search finds
        reference = at_once(qa, wanted, names)
        for question in ASKED:
            # whose keys come from tables that were rounded already
            assert_same(qa.ask(question), reference.ask(question), tolerance=1e-3)
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model")
    assert len(again.cells) == len(again.network.indexed.index) == len(qa.network.indexed.index)
    for question in ASKED:
        assert_same(again.ask(question), qa.ask(question))
    again.add_facts([ADA])
    again.remove_facts([min(wanted)])
    assert best(again).facts[0][:3] == ADA and len(again.facts) == len(wanted)


ASKED = [
    *("what did una novak write", "where was new 7 born", "who saw 3 new 5", "the job of old 3"),
    *("a book by xanten", "where was old 11 born", "what did novak write"),
]


def changed_at_random(qa: FactoidQA) -> tuple[set[Triple], dict[str, list[str]]]:
    """Add and remove facts, names among them; returns the facts that are left."""
    rng, wanted = random.Random(3), triples_in(qa)
    names: dict[str, list[str]] = {}
    for step in range(6):
        new = {
            (f"{rng.choice(['new', 'old'])}_{rng.randrange(30)}", f"person/{relation}", rng.choice("xyz"))
            for relation in rng.choices(["born_in", "wrote", f"saw_{step}"], k=12)
        }
        if step == 2:
            names = {"new_1": ["Una Novak", "Novak"], "old_2": ["Una Novak"], "x": ["Xanten"]}
            new |= {(entity, "person/wrote", "x") for entity in ("new_1", "old_2")}
        qa.add_facts(sorted(new), names)
        wanted |= new
        gone = set(rng.sample(sorted(wanted - {("new_1", "person/wrote", "x")}), 25))
        assert qa.remove_facts(sorted(gone)) == FactChange(0, 25, 0)
        wanted -= gone
    return wanted, names


@pytest.fixture(scope="module")
def trained_with_objects(small_rows: list[tuple[str, str, str, str]], small_facts: FactTable) -> FactoidQA:
    questions = QuestionSet.from_rows(small_facts, small_rows[:200])
    return FactoidQA(small_facts, objects=True, **SIZES).fit(
        questions, quiet=True, **{**TRAINING, "epochs": 1}
    )


@pytest.fixture
def with_objects(trained_with_objects: FactoidQA) -> FactoidQA:
    return copy.deepcopy(trained_with_objects)


def test_a_structure_is_kept_not_built_again(
    qa: FactoidQA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a change nor saving nor loading builds an index; the search costs what it did."""
    qa.use_index(CLUSTER, recall=0)
    with monkeypatch.context() as patched:
        patched.setattr(type(qa.network.indexed.index), "build", lambda *_: pytest.fail("built again"))
        qa.add_facts([ADA])
        qa.remove_facts([qa.facts.fact(0)[:3], qa.facts.fact(7)[:3]])
        qa.save_pretrained(tmp_path / "model")
        again = FactoidQA.from_pretrained(tmp_path / "model")
        query = qa.encode([BORN, "the job of ada"])
        found, wanted = again.network.indexed.search(query, 5), qa.network.indexed.search(query, 5)
    torch.testing.assert_close(found.score, wanted.score)
    torch.testing.assert_close(found.reads, wanted.reads)


@pytest.mark.parametrize("text", ["exact", CLUSTER])
def test_the_cost_does_not_depend_on_what_is_there(
    text: str, qa: FactoidQA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change encodes, files and fingerprints the cells that it touches, and no others."""
    qa.use_index(text, recall=0)
    qa.add_facts([ADA])
    filed, encoded = [], []
    index, encoder = qa.network.indexed.index, qa.memory.encoder
    add, forward = index.add, encoder.forward
    monkeypatch.setattr(index, "add", lambda cells, keys: (filed.extend(cells.tolist()), add(cells, keys)))
    monkeypatch.setattr(encoder, "forward", lambda cells: (encoded.extend(cells.tolist()), forward(cells))[1])
    monkeypatch.setattr("hmn.nn.memory.indexed.changed_cells", lambda *_: pytest.fail("all keys compared"))
    snapshot = qa.memory.snapshot()
    qa.add_facts([("charles", "person/wrote", "a_book"), ("charles", "person/born_in", "london")])
    assert filed == encoded == [len(qa.cells) - 2, len(qa.cells) - 1]
    assert qa.memory.snapshot().data_ptr() == snapshot.data_ptr(), "keys are not copied each time"
    qa.add_facts([ADA])  # which is there
    qa.replace_facts([("charles", "person/wrote", "another_book")])
    qa.remove_facts([("charles", "person/born_in", "london")])
    qa.ask(BORN)


def test_a_new_relation_is_known_by_its_words(qa: FactoidQA) -> None:
    qa.add_facts([("ada_lovelace", "person/favourite_dish", "soup")])
    assert best(qa, "favourite dish of ada lovelace").answers == ["soup"]
    assert qa.facts.relations[-1] == "person/favourite_dish"
    encoder = qa.memory.encoder
    assert isinstance(encoder, FactEncoder) and not encoder.own[-1].any()


@pytest.mark.parametrize("kind", ["file", "table", "file and names"])
def test_facts_come_from_anywhere(kind: str, qa: FactoidQA, tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("q7259\tperson/born_in\tq84\n")
    (tmp_path / "names.tsv").write_text("q7259\tAda Lovelace\nq84\tLondon\n")
    files = tmp_path / "facts.tsv", tmp_path / "names.tsv"
    names = {"q7259": ["Ada Lovelace"], "q84": ["London"]}
    if kind == "table":
        qa.add_facts(FactTable.read(*files))
    else:
        qa.add_facts(files[0], names if kind == "file" else str(files[1]))
    assert best(qa).answers == ["London"]
    qa.remove_facts(files[0])
    assert best(qa).facts[0].subject != "q7259"


def test_inverses_come_and_go_along(small_rows: list[tuple[str, str, str, str]]) -> None:
    facts = FactTable.from_triples(sorted({row[:3] for row in small_rows}), inverse=True)
    qa = fitted(facts, (QuestionSet.from_rows(facts, small_rows[:200]),) * 2, epochs=1)
    both = {ADA, ("london", "~person/born_in", "ada_lovelace")}
    assert qa.add_facts([ADA]).added == 1 and both <= triples_in(qa)
    qa.replace_facts([("ada_lovelace", "person/born_in", "paris")])
    there = triples_in(qa)
    assert not both & there and ("paris", "~person/born_in", "ada_lovelace") in there
    qa.remove_facts([("paris", "~person/born_in", "ada_lovelace")])
    assert triples_in(qa) == there - {
        ("paris", "~person/born_in", "ada_lovelace"),
        ("ada_lovelace", "person/born_in", "paris"),
    }


def test_mistakes_change_nothing(qa: FactoidQA, small_facts: FactTable) -> None:
    before, known = triples_in(qa), qa.facts.fact(0)[:3]
    gone = ("ada_lovelace", "person/wrote", "notes")
    with pytest.raises(DataError, match=r"does not have \('ada_lovelace', 'person/wrote', 'notes'\), "):
        qa.remove_facts([known, gone])
    assert triples_in(qa) == before
    assert qa.remove_facts([known, gone], ignore_missing=True) == FactChange(0, 1, 1)
    with pytest.raises(DataError, match="does not have"):
        qa.remove_facts([known])
    with pytest.raises(DataError, match="at least one that stays"):
        qa.remove_facts(sorted(triples_in(qa)))
    with pytest.raises(DataError, match="three texts"):
        qa.add_facts([("a", "b")])  # type: ignore[list-item]
    with pytest.raises(DataError, match="holds no fact"):
        qa.add_facts([])
    with pytest.raises(DataError, match="which has its own"):
        qa.add_facts(small_facts, {"a": ["b"]})
    with pytest.raises(DataError, match="no such file"):
        qa.add_facts("nowhere.tsv")
    assert triples_in(qa) == before - {known}
    with pytest.raises(NotFittedError):
        FactoidQA(small_facts).add_facts([ADA])


def test_evaluation_and_training_afterwards(
    qa: FactoidQA, small_split: Split, small_rows: list[tuple[str, str, str, str]], tmp_path: Path
) -> None:
    """Questions that were read before a change fit after it, unless they ask for what was removed."""
    before = figures(qa.evaluate(small_split[1]))
    qa.add_facts([ADA, ("zz_top", "person/sang", "tush")])
    assert figures(qa.evaluate(small_split[1]))["pair_accuracy"] == before["pair_accuracy"]
    own = QuestionSet.from_rows(qa.facts, [(*ADA, BORN)])
    assert qa.evaluate(own).fact_accuracy == 1
    qa.remove_facts([small_rows[0][:3]])
    with pytest.raises(DataError, match="lacks"):
        qa.evaluate(small_split[0])
    rows = [row for row in small_rows if row[:3] != small_rows[0][:3]]
    asked = QuestionSet.from_rows(qa.facts, rows[:800])
    out = tmp_path / "model"
    again = copy.deepcopy(qa).fit(asked, own, out=out, quiet=True, **{**TRAINING, "epochs": 1})
    assert len(again.facts) == len(again.facts.subject) == len(qa.facts) and again.memory.gaps == set()
    assert best(again).facts[0][:3] == ADA
    whole = FactTable.from_triples(sorted(triples_in(qa)))
    plain = FactoidQA(whole, **SIZES).fit(
        QuestionSet.from_rows(whole, rows[:800]), quiet=True, **{**TRAINING, "epochs": 1}
    )
    torch.testing.assert_close(again.memory.snapshot(), plain.memory.snapshot()), "as if nothing had changed"
    again.add_facts([("charles", "person/wrote", "a_book")])
    assert best(again, "a book by charles").answers == ["a book"]


@pytest.mark.parametrize("reading", ["softmax", "strategy"])
def test_readers_pass_over_what_was_removed(
    reading: str, qa: FactoidQA, small_facts: FactTable, small_split: Split, tmp_path: Path
) -> None:
    if reading == "softmax":
        qa = FactoidQA(small_facts, reader="softmax", **SIZES).fit(
            *small_split, quiet=True, **{**TRAINING, "epochs": 1}
        )
    else:
        qa.use_index(strategy="k-mips+rand-block:400")
    qa.add_facts([ADA])
    gone = [qa.facts.fact(cell)[:3] for cell in range(0, 300, 2)]
    qa.remove_facts(gone)
    if reading == "strategy":
        qa.use_index(strategy="k-mips+rand-block:400")
    answers = qa.ask(small_split[1].text[0], 400)
    assert not {fact[:3] for one in answers for fact in one.facts} & set(gone)
    assert best(qa).facts[0][:3] == ADA
    qa.save_pretrained(tmp_path / "model")
    again = FactoidQA.from_pretrained(tmp_path / "model")
    for question in small_split[1].text[:5]:
        assert_same(again.ask(question), qa.ask(question))


@pytest.mark.parametrize("index", ["exact", "cluster", "hierarchy"])
def test_a_model_of_version_0_1_takes_facts(index: str) -> None:
    path, made_again = VERSION_0_1 / f"bundle-{index}", index == "hierarchy"
    with pytest.warns(UserWarning, match="made again") if made_again else nullcontext():
        qa = FactoidQA.from_pretrained(path)
    qa.add_facts([ADA])
    assert any(fact[:3] == ADA for one in qa.ask(BORN, 10) for fact in one.facts)
