"""What stands between the readers and 0.95: the counts, on facts and questions counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import qa_limits
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Outcome

NAMES = {"b1": ["Ann Bee", "Ann"], "b2": ["Ann Bee"], "c": ["Cy Doe"], "d": ["Dune"], "e": ["Emma"]}
TRIPLES = [
    ("b1", "wrote", "d"),
    ("b1", "read", "e"),
    ("b2", "wrote", "e"),
    ("c", "wrote", "d"),
    ("c", "read", "e"),
    ("c", "sold", "e"),
]
TRAIN = [
    ("b1", "wrote", "d", "which book is by Ann Bee"),
    ("b1", "read", "e", "what of ann bee's"),
    ("c", "wrote", "d", "what of Cy Doe's"),
    ("c", "wrote", "d", "what, of cy doe's"),
    ("c", "sold", "e", "what does he sell"),
]
TINY = {
    "table_bits": 11,
    "name_features": 32,
    "relation_features": 16,
    "word_bits": 10,
    "word_features": 8,
    "hidden": 8,
}


@pytest.fixture(scope="module")
def facts() -> FactTable:
    return FactTable.from_triples(TRIPLES, NAMES)


@pytest.fixture(scope="module")
def cells(facts: FactTable) -> Cells:
    return Cells.of(facts)


def outcome(best: list[int], pair: float = 0.0) -> Outcome:
    return Outcome(0.0, pair, 0.0, 0.0, 0.0, np.array(best))


@pytest.mark.parametrize(
    ("text", "names", "wording"),
    [
        ("Which book is by Ann Bee?", ["ann", "ann bee"], "which book is by _"),
        ("Which book is by Anna Bee?", ["ann", "ann bee"], None),
        ("was Ann the ann of all", ["ann"], "was _ the ann of all"),
        ("Ann Bee", ["ann bee"], "_"),
        ("who_wrote Ann", ["ann"], "who wrote _"),
        ("who?", [], None),
    ],
)
def test_the_longest_name_that_a_question_has_is_left_blank_once(
    text: str, names: list[str], wording: str | None
) -> None:
    assert qa_limits.blanked(text, names) == wording


def test_the_majority_is_taken_among_the_relations_that_a_name_has() -> None:
    asked = {1: 5, 2: 3, 3: 3}
    assert qa_limits.majority(asked, {1, 2, 3}) == {1}
    assert qa_limits.majority(asked, {2, 3, 9}) == {2, 3}
    assert qa_limits.majority(asked, {9}) == set()
    assert qa_limits.majority({}, {1}) == set()


def test_wordings_are_counted_by_their_majority(facts: FactTable, cells: Cells) -> None:
    train = QuestionSet.from_rows(facts, TRAIN)
    rows = [
        ("c", "wrote", "d", "what of cy doe's"),  # asked twice as wrote, once as read
        ("c", "read", "e", "what of Cy Doe's?"),
        ("c", "read", "e", "what of cy doe's"),
        ("b2", "wrote", "e", "which book is by ann bee"),
        ("c", "sold", "e", "which book is by cy doe"),  # train asks only for wrote with these words
        ("c", "sold", "e", "a wording of its own for cy doe"),
        ("c", "sold", "e", "what does he sell"),  # has no name
    ]
    valid = QuestionSet.from_rows(facts, rows)
    wrote, read = facts.cell_of("c", "wrote", "d"), facts.cell_of("c", "read", "e")
    outcomes = [outcome([each]) for each in (read, wrote, read, wrote, wrote, wrote, wrote)]
    outcomes[2] = outcome([wrote, read], 0.5)
    found = qa_limits.wordings(facts, cells, train, valid, outcomes)
    assert found == qa_limits.Wordings(
        questions=7, known=5, majority_right=2 / 5, wrong_relation=3, against=2
    )


def test_a_majority_that_ties_counts_with_its_share(facts: FactTable, cells: Cells) -> None:
    train = QuestionSet.from_rows(facts, [TRAIN[1], TRAIN[2]])  # read once and wrote once
    valid = QuestionSet.from_rows(facts, [("c", "wrote", "d", "what of cy doe's")])
    found = qa_limits.wordings(facts, cells, train, valid, [outcome([facts.cell_of("c", "sold", "e")])])
    assert found == qa_limits.Wordings(1, 1, 0.5, 1, 0)


def test_names_alone_leave_subjects_of_one_name_to_chance(facts: FactTable, cells: Cells) -> None:
    rows = [("c", "wrote", "d", "?"), ("b2", "wrote", "e", "?"), ("b1", "wrote", "d", "?")]
    shares = [qa_limits.names_alone(facts, cells, QuestionSet.from_rows(facts, [row])) for row in rows]
    assert shares == [1.0, 0.5, 1.0]  # b1 has a name of its own as well
    assert qa_limits.names_alone(facts, cells, QuestionSet.from_rows(facts, rows)) == pytest.approx(2.5 / 3)


def test_facts_asked_again_are_counted(facts: FactTable) -> None:
    train = QuestionSet.from_rows(facts, TRAIN)
    valid = QuestionSet.from_rows(facts, [(*TRIPLES[0], "?"), (*TRIPLES[2], "?"), (*TRIPLES[4], "?")])
    assert qa_limits.asked_again(facts, train, valid) == {
        "of_the_facts_asked_in_train": pytest.approx(4 / 6),
        "of_the_held_out_questions_asked_in_train": pytest.approx(1 / 3),
    }


def test_missing_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "kmips").mkdir()
    with pytest.raises(SystemExit, match=r"no model softmax, expected .* run make bench-qa first"):
        qa_limits.loaded(tmp_path)


@pytest.mark.slow
def test_a_whole_run_on_small_models(
    small_facts: FactTable, small_split: tuple[QuestionSet, QuestionSet], tmp_path: Path
) -> None:
    train, valid = small_split
    for name, seed in (("kmips", 0), ("softmax", 1), ("kmips-+-MiniLM", 2)):
        qa = FactoidQA(small_facts, **TINY)
        qa.fit(train, quiet=True, epochs=1, batch_size=32, seed=seed).save_pretrained(tmp_path / name)
    models = qa_limits.loaded(tmp_path)
    found = qa_limits.measure(models, train, valid)
    for name, model in models.items():
        alone = model.evaluate(valid)
        assert found["accuracy"][name]["pair_accuracy"] == pytest.approx(alone.pair_accuracy, abs=1e-9)
        assert found["accuracy"][name]["fact_accuracy"] == pytest.approx(alone.fact_accuracy, abs=1e-9)
        assert found["best_of_three"] >= found["accuracy"][name]["pair_accuracy"]
        missing = 1 - found["accuracy"][name]["pair_accuracy"]
        assert sum(found["lost_pairs_in_points"][name].values()) == pytest.approx(100 * missing, abs=0.05)
    assert found["best_of_three"] <= found["names_alone"] <= 1
    assert 1 - found["best_of_three"] >= found["all_three_wrong"] - 1e-9
    shown = qa_limits.report({"machine": qa_limits.machine(), **found})
    assert f"| all three, scores summed | {found['accuracy']['all three']['pair_accuracy']:.4f} |" in shown
    (tmp_path / "softmax" / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="run make bench-qa again"):
        qa_limits.loaded(tmp_path)
