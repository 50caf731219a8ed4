"""What is left out of files is reported on standard error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmn.cli.output import log_left_out, log_names, print_answers
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.answer import Answer, Answers
from hmn.qa.factoid_qa import FactoidQA

FACTS = FactTable.from_triples([("dune", "written_by", "Herbert"), ("emma", "written_by", "Austen")])


def test_left_out_answers_and_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text(
        "".join(f"who {number}\tAusten\n" for number in range(60))
        + "one\n"
        + "whose is this\tnobody\nwhose are these\tHerbert|Homer\n"
    )
    log_left_out("train", QuestionSet.read(path, FACTS, skip_bad=True))
    printed = capsys.readouterr()
    assert not printed.out
    bad, unknown, unanswerable = printed.err.splitlines()
    assert bad.startswith(f"train: skipped 1 bad lines, the first: {path}:61: ")
    first = f"{path}:62: no fact has the answer 'nobody' as its object"
    assert unknown == f"train: left out 2 answers, such as {first}"
    assert unanswerable.startswith("train: 1 questions have no other answer: not trained on, and wrong when")
    path.write_text("who\tAusten\n")
    log_left_out("train", QuestionSet.read(path, FACTS))
    assert capsys.readouterr().err == ""


def test_notes_about_questions(capsys: pytest.CaptureFixture[str]) -> None:
    log_left_out("train", QuestionSet.from_rows(FACTS, [("who", "Austen")] * 3))
    printed = capsys.readouterr()
    said = "rows: 2 questions came again and count each time: rows:2: an earlier line is the same"
    assert printed.err.splitlines() == [said] and not printed.out


def test_names_that_read_the_same_are_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"a": ["北京市"], "b": ["北京 市。"], "c": ["天津市"]}
    facts = FactTable.from_triples([(entity, "位于", "中国") for entity in "abc"], names)
    log_names(FactoidQA(facts))
    said = "2 of 3 names read the same as another one: '北京市' like '北京 市。'"
    assert capsys.readouterr().err == f"{said}; questions cannot tell their facts apart\n"
    monkeypatch.setattr("hmn.qa.words.splitting.installed", lambda: False)
    log_names(FactoidQA(facts))
    assert capsys.readouterr().err.splitlines()[1].endswith('as one, pip install "hmn[chinese]"')
    log_names(FactoidQA(FACTS))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("probability", "threshold", "line"),
    [
        (None, 0.0, "> Herbert  50.0%   dune (dune) · written by"),
        (0.9, 0.8, "> Herbert  45.0%   dune (dune) · written by"),
        (
            *(0.9, 0.95),
            "perhaps in the table, but not as surely as --precision asks for "
            "(probability that it is: 90.0%); nearest facts:",
        ),
        (0.2, 0.95, "not in the table (probability that it is: 20.0%); nearest facts:"),
    ],
)
def test_an_answer_that_is_not_there_is_said_so(
    probability: float | None, threshold: float, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Answer(["Herbert"], 0.5, [FACTS.fact(0)], 1)
    print_answers(Answers([answer], probability, threshold))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == line
    assert rest[0].startswith("  Herbert  ") if "table" in line else rest == [""]
