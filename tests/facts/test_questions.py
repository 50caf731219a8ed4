"""Questions agree with plain Python over the same rows."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.facts.tables import FORMS

from hmn.errors import DataError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

REAL = Path(__file__).parents[3] / "shared" / "data" / "simplequestions"
METAQA = REAL.with_name("metaqa")
TRIPLES = [
    ("m.0a", "people/person/children", "m.0b"),
    ("m.0a", "people/person/children", "m.0c"),
    ("m.0a", "people/person/gender", "m.0f"),
    ("m.0b", "people/person/gender", "m.0m"),
    ("m.0c", "people/person/gender", "m.0f"),
    ("m.0d", "people/person/children", "m.0c"),
]
NAMES = {"m.0a": ["Ann"], "m.0b": ["Bob", "Robert"], "m.0c": ["bob"], "m.0f": ["female"]}
FACTS = FactTable.from_triples(TRIPLES, NAMES)


def ids(numbers: np.ndarray) -> list[str]:
    return [FACTS.entities[int(number)].as_py() for number in numbers]


def right(questions: QuestionSet, question: int) -> list[tuple[str, str, str]]:
    return [FACTS.fact(int(cell))[:3] for cell in questions.right_cells(FACTS, question)]


def assert_same(first: QuestionSet, second: QuestionSet) -> None:
    assert first.text == second.text
    for name in ("cell", "answer_start", "answer", "topic"):
        left, right = getattr(first, name), getattr(second, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_question_with_its_fact() -> None:
    questions = QuestionSet.from_rows(
        FACTS,
        [
            ("fb:m.0d", "fb:people.person.children", "fb:m.0c", "whose child?"),
            ("m.0a", "people/person/children", "m.0c", " who are ann's children "),
        ],
    )
    assert questions.text == ["whose child?", "who are ann's children"]
    assert [FACTS.fact(int(cell))[:3] for cell in questions.cell] == [TRIPLES[5], TRIPLES[1]]
    assert [ids(questions.answers(number)) for number in range(2)] == [["m.0c"], ["m.0b", "m.0c"]]
    assert right(questions, 0) == [TRIPLES[5]]
    assert right(questions, 1) == TRIPLES[:2]
    assert (questions.cell.dtype, questions.answer_start.dtype, questions.answer.dtype) == ("i8", "i8", "i4")


def test_question_with_answers_alone() -> None:
    rows = [("who is female", "FEMALE"), ("which children", ["/m/0b", "bob"]), ("gender of", ["m.0m"])]
    questions = QuestionSet.from_rows(FACTS, rows)
    assert questions.cell.tolist() == [-1, -1, -1]
    assert ids(questions.answers(0)) == ["m.0f"]
    assert right(questions, 0) == [TRIPLES[2], TRIPLES[4]]
    assert ids(questions.answers(1)) == ["m.0b", "m.0c"]
    assert right(questions, 1) == [TRIPLES[0], TRIPLES[1], TRIPLES[5]]
    assert right(questions, 2) == [TRIPLES[3]]


@settings(max_examples=30, deadline=None)
@given(
    picks=st.lists(st.integers(0, 5), min_size=1, max_size=8), numbers=st.lists(st.integers(0, 7), max_size=9)
)
def test_agrees_with_brute_force(picks: list[int], numbers: list[int]) -> None:
    questions = QuestionSet.from_rows(FACTS, [(*TRIPLES[pick], f"q {pick}") for pick in picks])
    by_pair = defaultdict(list)
    for subject, relation, object_ in TRIPLES:
        by_pair[subject, relation].append(object_)
    expected = [by_pair[TRIPLES[pick][:2]] for pick in picks]
    assert [ids(questions.answers(number)) for number in range(len(picks))] == expected
    for number, pick in enumerate(picks):
        assert right(questions, number) == [fact for fact in sorted(TRIPLES) if fact[:2] == TRIPLES[pick][:2]]
    numbers = [number % len(picks) for number in numbers]
    taken = questions.take(np.array(numbers, np.int64))
    assert taken.text == [f"q {picks[number]}" for number in numbers]
    assert taken.cell.tolist() == [questions.cell[number] for number in numbers]
    assert [ids(taken.answers(place)) for place in range(len(taken))] == [
        expected[number] for number in numbers
    ]


def test_formats_of_questions_with_facts(tmp_path: Path) -> None:
    rows = [(*TRIPLES[0], "who?"), (*TRIPLES[3], 'of what "gender"')]
    expected = QuestionSet.from_rows(FACTS, rows)
    keys = ("subject", "relation", "object", "question")
    files = {
        "plain.tsv": "".join("\t".join(row) + "\n" for row in rows),
        "header.tsv": "question\tobject\trelation\tsubject\n"
        + "".join("\t".join(row[::-1]) + "\n" for row in rows),
        "lines.jsonl": "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert_same(QuestionSet.read(tmp_path / name, FACTS), expected)
    (tmp_path / "bar.txt").write_text(files["plain.tsv"].replace("\t", "|"))
    assert_same(QuestionSet.read(tmp_path / "bar.txt", FACTS, separator="|"), expected)


def test_formats_of_questions_with_answers(tmp_path: Path) -> None:
    expected = QuestionSet.from_rows(FACTS, [("who?", ["m.0b", "female"]), ("what", "m.0m")])
    files = {
        "plain.tsv": "who?\tfemale | fb:m.0b\nwhat\tm.0m\n",
        "header.csv": "answers,number,question\nm.0b|female,1,who?\nm.0m,2,what\n",
        "lines.jsonl": '{"question": "who?", "answers": ["m.0b", "female"]}\n'
        '{"question": "what", "answers": "m.0m"}\n',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert_same(QuestionSet.read(tmp_path / name, FACTS), expected)


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        (
            "m.0a\tpeople/person/gender\tm.0f\twhat?",
            "m.0a\tpeople/person/gender\tm.0m\twhat?",
            "the fact (m.0a, ",
        ),
        (
            "m.0a\tpeople/person/gender\tm.0f\twhat?",
            "m.0a\tpeople/person/gender\tm.0f\t ",
            "empty field: question",
        ),
        ("m.0a\tpeople/person/gender\tm.0f\twhat?", "what?\tfemale", "got 2, expected 4"),
        ("who\tBob", "who\tnobody", "no fact has the answer 'nobody' as its object"),
        (
            "who\tBob",
            "who\tAnn",
            "no fact has the answer 'Ann' as its object: it is a subject, which inverse (--inverse) makes an "
            "object too, like all answers of 1 of 4 questions",
        ),
        (
            "who\tBob",
            "who\tBob; female",
            "no fact has the answer 'Bob; female' as its object: between several answers, expected '|'",
        ),
        ("who\tBob", "who\tBob, nobody", "'Bob, nobody' as its object, like"),
        ("who\tBob", "who\t|", "empty field: answers"),
        ("who\tBob", " \tBob", "empty field: question"),
    ],
)
def test_bad_line_is_named_or_counted(tmp_path: Path, good: str, bad: str, reason: str) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text(f"{good}\n{good}\n{bad}\n{good}\n")
    with pytest.raises(DataError) as error:
        QuestionSet.read(path, FACTS)
    assert str(error.value).startswith(f"{path}:3: ")
    assert reason in str(error.value)
    questions = QuestionSet.read(path, FACTS, skip_bad=True)
    assert (len(questions), questions.skipped.total) == (3, 1)


def many(*last: str) -> str:
    """Lines with 19 known answers, and more lines below."""
    return "".join(f"{line}\n" for line in [*["who\tBob"] * 19, *last])


def test_a_few_unknown_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text(many("who is there\tnobody", "who\tBob|Ann|female") + many())
    questions = QuestionSet.read(path, FACTS)
    assert (len(questions), questions.skipped.total, questions.unknown.total) == (40, 0, 2)
    assert questions.unknown.messages == (
        f"{path}:20: no fact has the answer 'nobody' as its object",
        f"{path}:21: no fact has the answer 'Ann' as its object: it is a subject, which inverse (--inverse) "
        "makes an object too",
    )
    assert ids(questions.answers(20)) == ["m.0b", "m.0c", "m.0f"]
    assert questions.unanswerable.tolist() == [19]
    assert ids(questions.answers(19)) == right(questions, 19) == []
    answerable = questions.answerable()
    assert answerable.text == questions.text[:19] + questions.text[20:]
    assert answerable.unknown == questions.unknown
    assert answerable.answerable() is answerable
    with pytest.raises(DataError, match="no question has an answer"):
        questions.take(np.array([19])).answerable()


def test_many_questions_without_a_known_answer_are_an_error_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text(many("who\tBob|nobody", "who\tnobody|no one", "who\tAnn"))
    with pytest.raises(DataError) as error:
        QuestionSet.read(path, FACTS)
    expected = "no fact has the answer 'nobody' as its object, like all answers of 2 of 22 questions; correct"
    assert str(error.value).startswith(f"{path}:21: {expected}")
    questions = QuestionSet.read(path, FACTS, skip_bad=True)
    assert (len(questions), questions.skipped.total, questions.unknown.total) == (20, 2, 1)
    assert questions.skipped.messages[0].startswith(f"{path}:21: ")
    assert ids(questions.answers(19)) == ["m.0b", "m.0c"]


def test_any_number_of_unknown_answers_is_left_out_beside_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text("who\tnobody|Bob\n" * 29 + "who\tnobody\n")
    questions = QuestionSet.read(path, FACTS)
    assert (len(questions), questions.skipped.total, questions.unknown.total) == (30, 0, 30)
    assert ids(questions.answers(6)) == ["m.0b", "m.0c"]
    assert questions.unanswerable.tolist() == [29]


def test_an_id_comes_before_a_name() -> None:
    facts = FactTable.from_triples(
        [("Up", "tag", "mother"), ("Psycho", "tag", "Mother"), ("Ed", "tag", "Wood")]
    )
    rows = [("q", "Mother"), ("q", "mother"), ("q", "MOTHER"), ("q [Up]", "wood")]
    questions = QuestionSet.from_rows(facts, rows)
    answers = [[facts.entities[int(number)].as_py() for number in questions.answers(row)] for row in range(4)]
    assert answers == [["Mother"], ["mother"], ["Mother", "mother"], ["Wood"]]


def test_topics_in_brackets() -> None:
    rows = [
        ("which child of [Ann]", "bob"),
        ("who is [nobody]", "female"),
        ("gender of [m.0d] there", "m.0m"),
    ]
    questions = QuestionSet.from_rows(FACTS, rows)
    assert questions.text == ["which child of Ann", "who is [nobody]", "gender of m.0d there"]
    assert questions.topic.dtype == np.int32
    assert [number if number < 0 else ids([number])[0] for number in questions.topic] == ["m.0a", -1, "m.0d"]
    assert questions.take(np.array([2, 1])).topic.tolist() == questions.topic[[2, 1]].tolist()
    assert questions.fits(FACTS)
    assert not questions.fits(FactTable.from_triples([("a", "r", "b")]))


def test_without_topics() -> None:
    with_facts = QuestionSet.from_rows(FACTS, [(*TRIPLES[0], "children of [Ann]")] * 2)
    assert (with_facts.text[0], with_facts.topic.tolist()) == ("children of [Ann]", [-1, -1])
    old = QuestionSet(with_facts.text, with_facts.cell, with_facts.answer_start, with_facts.answer)
    assert_same(old, with_facts)


def test_several_files(tmp_path: Path) -> None:
    first, second, odd = tmp_path / "one.tsv", tmp_path / "two.txt", tmp_path / "one.tsv,two.txt"
    first.write_text(many("which child of [Ann]\tBob|nobody"))
    second.write_text("\t".join([*TRIPLES[3], "what"]) + "\n")
    odd.write_text("odd\tBob\n")
    sets = [QuestionSet.read(path, FACTS) for path in (first, second)]
    for paths in ([first, str(second)], f"{first}, {second}", f"{first},{second},"):
        questions = QuestionSet.read(paths, FACTS)
        assert questions.text == [*["who"] * 19, "which child of Ann", "what"]
        assert questions.unknown == sets[0].unknown
        assert_same(questions.take(np.arange(20)), sets[0])
        assert_same(questions.take(np.array([20])), sets[1])
    assert QuestionSet.read(str(odd), FACTS).text == ["odd"]
    assert QuestionSet.read([str(odd)], FACTS).text == ["odd"]
    with pytest.raises(DataError, match=r"none\.tsv: no such file"):
        QuestionSet.read(f"{first},{tmp_path / 'none.tsv'}", FACTS)
    with pytest.raises(DataError, match="no such file"):
        QuestionSet.read(",".join([str(first)] * 200) + "x", FACTS)  # longer than any path may be
    for none in ([], " , "):
        with pytest.raises(DataError, match="got no questions"):
            QuestionSet.read(none, FACTS)


@pytest.mark.parametrize(
    "content", ["", "who\n", "who\tnobody\n", "question\tanswers\n", "m.0a\tr\tm.0b\twho\n"]
)
def test_a_file_without_a_good_row(tmp_path: Path, content: str) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text(content)
    with pytest.raises(DataError, match=r"questions\.tsv: (no rows|it holds no question), expected"):
        QuestionSet.read(path, FACTS, skip_bad=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows: it holds no question"),
        ([("a", "b", "c")], "rows:1: "),
        ([("who", "Bob"), (*TRIPLES[0], "who")], "rows:2: "),
        ([("who", [])], "rows:1: empty"),
        ([("who", [7])], "rows:1: "),
        ([("who", 7)], "rows:1: "),
        ([(*TRIPLES[0], " ")], "rows:1: empty"),
        ([(*TRIPLES[0], "who"), ("x", "y", "z", "who")], "rows:2: the fact"),
        ([()], "rows:1: "),
    ],
)
def test_bad_rows(rows: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        QuestionSet.from_rows(FACTS, rows)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the SimpleQuestions data is not beside this repository")
def test_real_questions() -> None:
    """Cells and right answers agree with plain dictionaries over the file's own spelling."""
    facts = FactTable.read(REAL / "facts.tsv")
    questions = QuestionSet.read(REAL / "valid.tsv", facts)
    lines = [line.split("\t") for line in (REAL / "valid.tsv").read_text(encoding="utf-8").splitlines()]
    assert len(questions) == len(lines) == 10_845
    objects = defaultdict(set)
    for line in (REAL / "facts.tsv").read_text(encoding="utf-8").splitlines():
        subject, relation, object_ = line.split("\t")
        objects[subject, relation].add(object_.replace("www.freebase.com/m/", "m."))
    for number in range(0, len(lines), 37):
        subject, relation, object_, text = lines[number]
        fact = facts.fact(int(questions.cell[number]))
        assert questions.text[number] == text.strip()
        assert ["www.freebase.com/" + part.replace("m.", "m/") for part in fact[:3:2]] == [subject, object_]
        assert {facts.entities[int(entity)].as_py() for entity in questions.answers(number)} == objects[
            subject, relation
        ]
        right = questions.right_cells(facts, number)
        assert questions.cell[number] in right
        assert len(right) == len(objects[subject, relation])


@pytest.mark.skipif(not METAQA.is_dir(), reason="the MetaQA data is not beside this repository")
def test_real_questions_of_several_hops() -> None:
    """Topics and answers agree with plain Python over the files' own text."""
    lines = (METAQA / "kb.txt").read_text(encoding="utf-8").splitlines()
    triples = {tuple(line.split("|")) for line in lines}
    entities = {entity for subject, _, object_ in triples for entity in (subject, object_)}
    facts = FactTable.read(METAQA / "kb.txt", inverse=True)
    assert len(facts) == 2 * len(triples)
    assert facts.repeated.total == len(lines) - len(triples)
    names = [f"{METAQA}/{hops}hop-valid.txt" for hops in (1, 2, 3)]
    questions = QuestionSet.read(",".join(names), facts)
    rows = [
        line.split("\t") for name in names for line in Path(name).read_text(encoding="utf-8").splitlines()
    ]
    assert len(questions) == len(rows) == 6_000
    wanted = [answers.split("|") for _, answers in rows]
    folded = {entity.casefold() for entity in entities}
    assert questions.unknown.total == sum(name.casefold() not in folded for row in wanted for name in row) > 0
    assert len(questions.unanswerable) == 1
    for number, (asked, _) in enumerate(rows):
        name = asked[asked.index("[") + 1 : asked.rindex("]")]
        topic = int(questions.topic[number])
        assert questions.text[number] == (asked if topic < 0 else asked.replace("[", "").replace("]", ""))
        assert (facts.entities[topic].as_py() if topic >= 0 else None) == (name if name in entities else None)
        if number % 10 == 0 and set(wanted[number]) <= entities:
            answers = {facts.entities[int(entity)].as_py() for entity in questions.answers(number)}
            assert answers == set(wanted[number])


@pytest.mark.parametrize("bad", [[1], [-1], [0.5], [[0]], "0", [True]])
def test_only_numbers_of_questions_can_be_taken(bad: object) -> None:
    questions = QuestionSet.from_rows(FACTS, [(*TRIPLES[0], "who")])
    assert questions.take([0, 0]).text == ["who", "who"]  # type: ignore[arg-type]
    assert questions.take([]).text == []  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected whole numbers from 0 to 0"):
        questions.take(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_facts_and_answers_in_any_form_of_unicode(tmp_path: Path, usual: str, other: str) -> None:
    for there, asked in ((usual, other), (other, usual)):
        facts = FactTable.from_triples([("a", "r", there), ("a", "r", "m.01")], {"m.01": [f"the {there}"]})
        path = tmp_path / "questions.tsv"
        path.write_text(f"what\t{asked}\nwhich\tthe {asked}\nwho is [a]\t{asked}|nobody\n", encoding="utf-8")
        questions = QuestionSet.read(path, facts)
        found = [[facts.entity_id(answer) for answer in questions.answers(row)] for row in range(3)]
        assert found == [[usual], ["m.01"], [usual]] and questions.unknown.total == 1
        path.write_text(f"a\tr\t{asked}\twhat\n", encoding="utf-8")
        assert QuestionSet.read(path, facts).cell.tolist() == [facts.cell_of("a", "r", usual)]


def test_rows_that_come_again_are_noted_and_kept(tmp_path: Path) -> None:
    first, second = tmp_path / "first.tsv", tmp_path / "second.tsv"
    row = "m.0a\tpeople/person/gender\tm.0f\twhat is ann"
    first.write_text(f"{row}\n{row} now\n{row}\n{row}\n")
    second.write_text("who\tbob|Ann\nwho\tbob\nwho\tbob|Ann\n")
    questions = QuestionSet.read([first, second], FACTS)
    assert len(questions) == 7
    assert questions.notes == (
        f"{first}: 2 questions came again and count each time: {first}:3: an earlier line is the same",
        f"{second}: 1 questions came again and count each time: {second}:3: an earlier line is the same",
    )
    assert questions.take(np.array([0])).notes == questions.answerable().notes == questions.notes
    assert QuestionSet.read([first, first], FACTS).notes == questions.notes[:1]
    assert QuestionSet.from_rows(FACTS, [("who", "bob"), ("who", ["Robert"])]).notes == ()
