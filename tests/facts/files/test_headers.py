"""Headers in the names that people give columns; facts in such words are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmn.errors import DataError
from hmn.facts.files.formats import read_rows
from hmn.facts.files.headers import columns_named
from hmn.facts.files.layout import Layout
from hmn.facts.files.source import Source
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

FACT = ("subject", "relation", "object")


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("head,relation,tail", [0, 1, 2]),
        ("Tail,Relation,Head", [2, 1, 0]),
        ("subject,predicate,object", [0, 1, 2]),
        ("line,object,predicate,subject", [3, 2, 1]),
        ("s,p,o", [0, 1, 2]),
        ("h,r,t", [0, 1, 2]),
        ("?s,?p,?o", [0, 1, 2]),
        ("#subject,predicate,object", [0, 1, 2]),
        ("source,relation,target", [0, 1, 2]),
        ("Entity,Attribute,Value", [0, 1, 2]),
        ("subject_id,relation_id,object_id", [0, 1, 2]),
        ("from,type,to", [0, 1, 2]),
        ("o,p,s", None),
        ("n,s,p,o", None),
        ("subject,relation", None),
        ("head,relation,object,x", [0, 1, 2]),
        ("dune,written by,herbert", None),
        ("Subjekt,Prädikat,Objekt", [0, 1, 2]),
        ("Quelle,Objekt,Relation,Subjekt", [3, 2, 1]),
        ("Subjekt,Eigenschaft,Wert", [0, 1, 2]),
        ("Wert,Eigenschaft,Subjekt", None),
        ("sujet,relation,objet", [0, 1, 2]),
        ("主语,关系,宾语", [0, 1, 2]),
        ("实体,属性,值", [0, 1, 2]),
        ("субъект,отношение,объект", [0, 1, 2]),
        ("الموضوع,العلاقة,القيمة", [0, 1, 2]),
    ],
)
def test_columns_of_facts(header: str, order: list[int] | None) -> None:
    assert columns_named(header.split(","), FACT) == order


@pytest.mark.parametrize(
    ("header", "wanted", "found"),
    [
        ("question,answer", "question,answers", True),
        ("Answer,Question", "question,answers", True),
        ("query,target", "question,answers", True),
        ("who wrote it,answer", "question,answers", False),
        ("id,name", "entity,name", True),
        ("entity,label", "entity,name", True),
        ("qid,title", "entity,name", True),
        ("q1,Dune", "entity,name", False),
        ("Frage,Antwort", "question,answers", True),
        ("Nr,Antwort,Frage,Thema", "question,answers", True),
        ("问题,答案", "question,answers", True),
        ("Q,A", "question,answers", True),
        ("Question,Correct Answer", "question,answers", False),
        ("text,what", "question,answers", False),
        ("id,Bezeichnung", "entity,name", True),
        ("id,Bandung", "entity,name", False),
        ("head,relation,tail,question", "subject,relation,object,question", True),
    ],
)
def test_columns_of_names_and_questions(header: str, wanted: str, found: bool) -> None:
    assert (columns_named(header.split(","), wanted.split(",")) is not None) is found


def test_a_header_is_no_fact_in_any_file(tmp_path: Path) -> None:
    (tmp_path / "facts.csv").write_text("head,relation,tail\nq1,wrote,q2\nhead,relation,tail\nq3,wrote,q4\n")
    (tmp_path / "names.csv").write_text("id,label\nq1,Ada\nq2,Notes\n")
    (tmp_path / "questions.tsv").write_text("question\tanswer\nwhat did ada write\tNotes\n")
    facts = FactTable.read(tmp_path / "facts.csv", tmp_path / "names.csv")
    assert (len(facts), facts.relations) == (2, ["wrote"])
    questions = QuestionSet.read(tmp_path / "questions.tsv", facts)
    assert questions.text == ["what did ada write"]


@pytest.mark.parametrize("header", ["Question,Correct Answer", "frage;richtig", "Q,A", "问题,标准答案"])
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_the_header_of_questions_is_no_question(tmp_path: Path, header: str, suffix: str) -> None:
    path = tmp_path / f"questions{suffix}"
    mark = ";" if ";" in header else ","
    path.write_text(f"{header}\nwhat did ada write{mark}notes\n", encoding="utf-8")
    facts = FactTable.from_triples([("ada", "wrote", "notes")])
    assert QuestionSet.read(path, facts).text == ["what did ada write"]


@pytest.mark.parametrize(
    "content",
    [
        "source,type,value\ntarget,type,value\n",
        "s,p,o\nx,q,s\n",
        "h,r,t\nt,r,h\n",
        "subject,relation,object\nverb,relation,noun\n",
    ],
)
def test_a_fact_in_the_words_of_a_header_is_a_fact(tmp_path: Path, content: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(content)
    assert len(FactTable.read(path)) == 2


def test_a_header_alone_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("s,p,o\n")
    with pytest.raises(DataError, match=r"facts\.csv: it holds no fact"):
        FactTable.read(path)


def test_own_names_are_taken_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("subject,relation,object\na,r,b\n")
    with pytest.raises(DataError, match="the header has columns 'subject'"):
        read_rows(Source(path), [Layout(("who", "relation", "object"))], header=True)


def test_columns_are_found_in_any_form_of_unicode(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("gro\u0308ße,ｗａｓ,wen\nb,r,c\n", encoding="utf-8")
    assert FactTable.read(path, columns=["größe", "was", "wen\u00a0"]).fact(0)[:3] == ("b", "r", "c")


def test_a_header_below_a_title_is_no_fact(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("My facts,,\nsubject,relation,object\na,r,b\n")
    with pytest.raises(DataError, match=r"facts\.csv:1: empty field: relation"):
        FactTable.read(path)
    table = FactTable.read(path, skip_bad=True)
    assert (len(table), table.fact(0)[:3], table.skipped.total) == (1, ("a", "r", "b"), 1)
