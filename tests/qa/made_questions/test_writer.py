from __future__ import annotations

import numpy as np
import pytest

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.made_questions.language import languages
from hmn.qa.made_questions.writer import QuestionWriter

TRIPLES = [
    ("m.1", "people/person/placeOfBirth", "London"),
    ("m.1", "people/person/birth_date", "1815-12-10"),
    ("m.2", "people/person/birth_date", "1791"),
    ("m.2", "Height (cm)", "180 cm"),
    ("m.1", "Height (cm)", "1.65"),
    ("m.2", "people/person/children", "m.1"),
]
NAMES = {"m.1": ["Ada King Lovelace", "Ada"], "m.2": ["Lord Byron"]}
EN = languages()["en"]


def facts(inverse: bool = False) -> FactTable:
    return FactTable.from_triples(TRIPLES, NAMES, inverse=inverse)


def written(table: FactTable, code: str | None = "en", count: int = 400, bare: float = 0.0) -> QuestionSet:
    return QuestionWriter(table, languages()[code] if code else None, bare).write(count, seed=1)


def test_each_question_names_the_subject_of_its_fact() -> None:
    table = facts()
    questions = written(table)
    for text, cell in zip(questions.text, questions.cell, strict=True):
        names = table.names_of(int(table.subject[cell]))
        cut = [" ".join(name.split()[:at] + name.split()[at + 1 :]) for name in names for at in range(3)]
        assert any(name in text for name in [*names, *(part for part in cut if part)])
        assert text == " ".join(text.split())
    assert len(set(questions.text)) > 200


def test_answers_are_all_objects_of_subject_and_relation() -> None:
    table = FactTable.from_triples([("a", "r", "b"), ("a", "r", "c"), ("a", "s", "d")])
    questions = written(table, count=20)
    for number, cell in enumerate(questions.cell):
        expected = sorted(table.object[table.cells_of_pair(int(table.pair[cell]))].tolist())
        assert questions.answers(number).tolist() == expected


def test_dates_are_asked_for_with_when_and_numbers_with_how_many() -> None:
    table = facts()
    questions = written(table, count=2000)
    share = {}
    for relation, name in enumerate(table.relations):
        texts = [questions.text[n] for n in np.flatnonzero(table.relation[questions.cell] == relation)]
        for kind, asked in (("when", EN.when), ("how many", EN.how_many)):
            share[name, kind] = np.mean([any(words in text for words in asked) for text in texts])
    assert share["people/person/birth_date", "when"] > 3 * share["people/person/children", "when"]
    assert share["Height (cm)", "how many"] > 2 * share["people/person/children", "how many"]


def test_rare_relations_are_asked_for_more_often_than_they_occur() -> None:
    rows = [(f"e{number}", "common", "x") for number in range(99)] + [("e0", "rare", "x")]
    table = FactTable.from_triples(rows)
    rare = table.relation[written(table, count=4000).cell] == table.relations.index("rare")
    # by the square root of their numbers of facts: 1 to 9.95, where the facts themselves are 1 to 99
    assert np.mean(rare) == pytest.approx(1 / (1 + 99**0.5), abs=0.02)


def test_relations_backward_have_forms_of_their_own() -> None:
    table = FactTable.from_triples([("France", "capital", "Paris")], inverse=True)
    questions = written(table, count=300)
    texts = {
        name: [questions.text[n] for n in np.flatnonzero(table.relation[questions.cell] == number)]
        for number, name in enumerate(table.relations)
    }
    assert all("Paris" in text for text in texts["~capital"])
    assert all("France" in text for text in texts["capital"])


def test_in_no_language_there_are_only_words_of_the_table_and_made_up_ones() -> None:
    questions = written(facts(), None)
    small = {word for group in (EN.ask, EN.be, EN.filler) for words in group for word in words.split()}
    small -= {"of", "Of"}  # which the table itself has
    assert not {word for text in questions.text for word in text.split()} & small
    half = written(facts(), bare=0.5)
    asked = np.mean([bool(set(text.split()) & small) for text in half.text])
    assert 0.3 < asked < 0.6


@pytest.mark.parametrize("code", sorted(languages()))
def test_every_language_writes(code: str) -> None:
    language = languages()[code]
    questions = written(facts(), code, count=200)
    assert any(word in text for text in questions.text for word in language.ask)
    if not language.spaced:
        table = FactTable.from_triples([("法国", "官方语言", "法语")])
        texts = written(table, code, count=100).text
        assert np.mean([" " in text for text in texts]) < 0.5
        assert any("官方" in text and "官方语言" not in text for text in texts)


def test_a_seed_decides() -> None:
    assert written(facts()).text == written(facts()).text
    assert written(facts()).text != QuestionWriter(facts(), EN).write(400, seed=2).text
