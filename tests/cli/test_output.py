"""What is left out of files is reported on standard error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmn.cli.output import log_left_out
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

FACTS = FactTable.from_triples([("dune", "written_by", "Herbert"), ("emma", "written_by", "Austen")])


def test_left_out_answers_and_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text(
        "who\tAusten\n" * 60 + "one\n" + "whose is this\tnobody\nwhose are these\tHerbert|Homer\n"
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
