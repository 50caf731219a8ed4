"""Questions that the table does not answer: other names, names that it does not have, and two facts."""

from __future__ import annotations

import numpy as np
from tests.qa.small import Split

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.known.strangers import garbled, strangers

FACTS = FactTable.from_triples(
    [
        ("dune", "written by", "herbert"),
        ("big dune sea", "depth", "40"),
        ("emma", "written by", "austen"),
        ("red moon rover", "built in", "1970"),
    ]
)
QUESTIONS = QuestionSet.from_rows(
    FACTS,
    [
        ("dune", "written by", "herbert", "who wrote Dune, the novel?"),
        ("big dune sea", "depth", "40", "how deep is big dune sea"),
        ("emma", "written by", "austen", "who wrote that book?"),
    ],
)


def test_the_name_is_replaced_by_one_without_the_relation_by_a_mixture_and_by_a_question() -> None:
    cells = Cells.of(FACTS)
    found = strangers(QUESTIONS, np.arange(3), cells, seed=0)
    # the third question does not have its name in it
    assert [len(texts) for texts in found] == [2, 2, 2]
    assert found.other[0] in {"who wrote big dune sea the novel", "who wrote red moon rover the novel"}
    assert found.other[1] in {f"how deep is {name}" for name in ("dune", "emma", "red moon rover")}
    for text, before in zip(found.unheard, ("who wrote ", "how deep is "), strict=True):
        name = text.removeprefix(before).removesuffix(" the novel")
        assert text.startswith(before) and name not in cells.names
        assert set(name.split()) <= {word for known in cells.names for word in known.split()}
    asked = {" ".join(cells.splitting.words(text)) for text in QUESTIONS.text}
    assert found.nested[1].removeprefix("how deep is ") in asked


def test_answers_alone_give_none() -> None:
    asked = QuestionSet.from_rows(FACTS, [("who wrote dune", "herbert")])
    assert strangers(asked, np.arange(1), Cells.of(FACTS), seed=0) == ([], [], [])


def test_made_up_words_leave_the_name_alone() -> None:
    cells = Cells.of(FACTS)
    wholes = []
    for seed in range(20):
        for text, number, is_whole in zip(*garbled(QUESTIONS, np.arange(3), cells, seed), strict=True):
            words, before = text.split(), cells.splitting.words(QUESTIONS.text[number])
            name = ["dune"] if number == 0 else ["big", "dune", "sea"]
            kept = [word for word, old in zip(words, before, strict=True) if word == old]
            assert len(words) == len(before) and " ".join(name) in text and len(kept) < len(before)
            assert is_whole == (kept == name)
            wholes.append(is_whole)
    assert 0 < sum(wholes) < len(wholes)


def test_the_table_does_not_answer_them(small_facts: FactTable, small_split: Split) -> None:
    cells, questions = Cells.of(small_facts), small_split[1]
    found = strangers(questions, np.arange(50), cells, seed=1)
    assert len(found.unheard) > 25
    names = set(cells.names)
    for text, number in zip(found.unheard, _with_name(questions, cells), strict=True):
        words = cells.splitting.words(questions.text[number])
        assert text != " ".join(words)
        assert not any(f" {name} " in f" {text} " for name in names if len(name.split()) > 1)


def _with_name(questions: QuestionSet, cells: Cells) -> list[int]:
    """Which of the first 50 questions have a name of their subject in them."""
    found = []
    for number in range(50):
        own = cells.of_fact.row(int(questions.cell[number]))
        text = " ".join(cells.splitting.words(questions.text[number]))
        if any(f" {cells.names[int(cells.subject[cell])]} " in f" {text} " for cell in own):
            found.append(number)
    return found
