"""Questions agree with plain Python over the same rows."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmn.errors import DataError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

REAL = Path(__file__).parents[3] / "shared" / "data" / "simplequestions"
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
    for name in ("cell", "answer_start", "answer"):
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
        ("who\tBob", "who\tBob|Ann", "no fact has the answer 'Ann' as its object"),
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


@pytest.mark.parametrize("bad", [[1], [-1], [0.5], [[0]], "0", [True]])
def test_only_numbers_of_questions_can_be_taken(bad: object) -> None:
    questions = QuestionSet.from_rows(FACTS, [(*TRIPLES[0], "who")])
    assert questions.take([0, 0]).text == ["who", "who"]  # type: ignore[arg-type]
    assert questions.take([]).text == []  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected whole numbers from 0 to 0"):
        questions.take(bad)  # type: ignore[arg-type]
