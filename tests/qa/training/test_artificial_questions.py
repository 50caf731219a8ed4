from __future__ import annotations

import numpy as np

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.text import Texts
from hmn.qa.training.artificial_questions import ArtificialQuestions
from hmn.qa.words.splitting import AUTO, splitting

TRIPLES = [
    ("m.1", "person/born_in", "m.9"),
    ("m.2", "person/born_in", "m.8"),
    ("m.3", "person/wrote", "m.7"),
]
NAMES = {"m.1": ["Ada Lovelace", "Ada"], "m.2": ["Charles Babbage"], "m.3": ["Mary"], "m.7": ["It"]}
ASKED = [
    ("m.1", "person/born_in", "m.9", "where was ada lovelace born"),
    ("m.2", "person/born_in", "m.8", "where is he from"),
]


def made(other_subject: float, relation_words: float) -> tuple[ArtificialQuestions, FactTable, Texts]:
    facts = FactTable.from_triples(TRIPLES, NAMES)
    cells, questions = Cells.of(facts), QuestionSet.from_rows(facts, ASKED)
    relations = [facts.relation_text(number) for number in range(len(facts.relations))]
    texts = Texts([*questions.text, *cells.names, *relations], 12, splitting(AUTO))
    artificial = ArtificialQuestions(
        questions, facts, cells, texts, other_subject=other_subject, relation_words=relation_words
    )
    return artificial, facts, texts


def drawn(other_subject: float, relation_words: float, seed: int) -> list[tuple[str, str, str]]:
    artificial, facts, texts = made(other_subject, relation_words)
    word, pair, then = artificial.draw(np.array([0, 1]), np.random.default_rng(seed))
    assert (then == -1).all()
    asked = [
        facts.cell_of(*row[:3]) if one < 0 else int(facts.pair_start[one])
        for row, one in zip(ASKED, pair, strict=True)
    ]
    return [
        (" ".join(texts.vocabulary[one] for one in word.row(row)), *facts.fact(asked[row])[:2])
        for row in range(2)
    ]


def test_the_longest_name_is_found() -> None:
    artificial, _, _ = made(1, 0)
    assert artificial.mention.tolist() == [[2, 4], [-1, -1]]


def test_another_subject_with_the_same_relation_is_asked_for() -> None:
    seen = {question for seed in range(60) for question in drawn(1, 0, seed)}
    assert seen == {
        ("where was ada lovelace born", "m.1", "person/born_in"),
        ("where was ada born", "m.1", "person/born_in"),
        ("where was charles babbage born", "m.2", "person/born_in"),
        ("where is he from", "m.2", "person/born_in"),
    }


def test_words_of_a_relation_stand_beside_the_name() -> None:
    seen = {question for seed in range(300) for question in drawn(0, 1, seed)}
    assert ("born ada", "m.1", "person/born_in") in seen
    assert ("mary person wrote", "m.3", "person/wrote") in seen
    for text, subject, relation in seen:
        rest = next(
            text.replace(name.lower(), "", 1) for name in NAMES[subject] if name.lower() in text
        ).split()
        assert rest
        assert set(rest) <= set(relation.replace("/", " ").replace("_", " ").split())


def test_without_shares_nothing_changes_and_a_seed_decides() -> None:
    assert drawn(0, 0, 3) == [
        ("where was ada lovelace born", "m.1", "person/born_in"),
        ("where is he from", "m.2", "person/born_in"),
    ]
    assert drawn(0.5, 0.5, 3) == drawn(0.5, 0.5, 3)


def test_questions_of_which_only_answers_are_known_stay() -> None:
    facts = FactTable.from_triples(TRIPLES, NAMES)
    questions = QuestionSet.from_rows(facts, [("what did mary write", "It")])
    cells = Cells.of(facts)
    texts = Texts([*questions.text, *cells.names, "a", "b"], 12, splitting(AUTO))
    artificial = ArtificialQuestions(questions, facts, cells, texts, other_subject=1, relation_words=0)
    word, pair, _ = artificial.draw(np.array([0]), np.random.default_rng(0))
    assert pair.tolist() == [-1]
    assert word.row(0).tolist() == texts.word.row(0).tolist()


STEPS = [
    ("ada", "person/born_in", "london"),
    ("bo", "person/born_in", "paris"),
    ("london", "city/country", "uk"),
    ("paris", "city/country", "france"),
    ("tower", "sight/city", "london"),
    ("uk", "country/capital", "london"),
]


def joined(seed: int) -> tuple[str, str, list[str], str]:
    """A question that is asked about what another asks for: words, topic and relations."""
    facts = FactTable.from_triples(STEPS)
    rows = [
        ("london", "city/country", "uk", "which country is london in"),
        ("ada", "person/born_in", "london", "where was ada born"),
    ]
    cells, questions = Cells.of(facts), QuestionSet.from_rows(facts, rows)
    relations = [facts.relation_text(number) for number in range(len(facts.relations))]
    texts = Texts([*questions.text, *cells.names, *relations], 12, splitting(AUTO))
    artificial = ArtificialQuestions(
        questions, facts, cells, texts, other_subject=0, relation_words=0, joined=1
    )
    drawn = artificial.draw(np.array([0, 1]), np.random.default_rng(seed))
    # no fact leads to a person, so the second question stays
    assert drawn.pair[1] == drawn.then[1] == -1
    asked = [" ".join(texts.vocabulary[one] for one in drawn.words.row(row)) for row in range(2)]
    assert asked[1] == rows[1][3]
    first = facts.fact(int(facts.cells_of_pair(int(drawn.pair[0]))[0]))
    return asked[0], first.subject, [first.relation, facts.relations[int(drawn.then[0])]], first.object


def test_a_question_is_asked_about_what_another_one_asks_for() -> None:
    seen = [joined(seed) for seed in range(200)]
    texts = {text for text, *_ in seen}
    assert {
        "which country is where was ada born in",
        "which country is where was bo born in",
        "which country is born bo in",
        "which country is tower sight city in",
    } <= texts
    for text, topic, relations, _ in seen:
        assert text.startswith("which country is ") and text.endswith(" in") and topic in text.split()
        assert relations[1] == "city/country"
        # from the United Kingdom to its capital and back again is no question
        assert relations[0] in ("person/born_in", "sight/city")
    assert {relations[0] for _, _, relations, _ in seen} == {"person/born_in", "sight/city"}


def test_a_name_is_found_in_any_of_its_spellings() -> None:
    facts = FactTable.from_triples([("z", "wrote", "x"), ("c", "made_by", "y")], {"z": ["Zoë"], "c": ["C++"]})
    cells = Cells.of(facts)
    asked = [("z", "wrote", "x", "what has zoe done"), ("c", "made_by", "y", "who made c ?")]
    texts = Texts([*(row[3] for row in asked), *cells.names, "wrote", "made by"], 12, splitting(AUTO))
    questions = QuestionSet.from_rows(facts, asked)
    artificial = ArtificialQuestions(questions, facts, cells, texts, other_subject=1, relation_words=0)
    assert artificial.mention.tolist() == [[2, 3], [2, 3]]
