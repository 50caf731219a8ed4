from __future__ import annotations

from pathlib import Path

from tests.fuzz.bundles import make_bundle
from typer.testing import CliRunner

from hmn.cli.app import app
from hmn.qa.factoid_qa import FactoidQA
from hmn.serve.served import ServedModel

RUNNER = CliRunner()


def test_facts_are_added_replaced_and_removed(tmp_path: Path) -> None:
    """As a user would from one day to the next; the model is written in place, or to another folder."""
    model, other = make_bundle(tmp_path / "model"), tmp_path / "other"
    new, names, letters = (tmp_path / file for file in ("new.csv", "names.tsv", "letters.tsv"))
    new.write_text("who,what,whom\nq1,person/wrote,q2\n")
    names.write_text("q1\tAda Lovelace\nq2\tNotes\n")
    letters.write_text("q1\tperson/wrote\tletters\n")

    def changed(*arguments: object) -> str:
        done = RUNNER.invoke(app, ["facts", *map(str, arguments)])
        assert done.exit_code == 0, done.stderr
        return done.stderr.strip().splitlines()[-1]

    def written(folder: Path) -> list[str]:
        facts = FactoidQA.from_pretrained(folder).facts
        return [facts.fact(cell).object_name for cell in range(len(facts)) if facts.fact(cell)[0] == "q1"]

    count = len(FactoidQA.from_pretrained(model).facts)
    line = changed("add", model, new, "--names", names, "--columns", "who,what,whom")
    assert line == f"1 facts added, 0 removed, 0 unchanged; wrote {model} with {count + 1:,} facts"
    assert written(model) == ["Notes"]
    line = changed("replace", model, letters, "--out", other)
    assert line == f"1 facts added, 1 removed, 0 unchanged; wrote {other} with {count + 1:,} facts"
    assert written(model) == ["Notes"] and written(other) == ["letters"]
    assert changed("remove", other, letters).startswith("0 facts added, 1 removed, 0 unchanged; wrote")
    assert written(other) == []
    again = RUNNER.invoke(app, ["facts", "remove", str(other), str(letters)])
    assert again.exit_code == 2
    assert "error: the table does not have ('q1', 'person/wrote', 'letters'), expected" in again.stderr
    letters.write_text("Zu\u0308rich\tperson/wrote\tｘ\u00a0y\n", encoding="utf-8")
    new.write_text("who,what,whom\nZürich,person/wrote,x y\n", encoding="utf-8")
    assert changed("add", other, new, "--columns", "who,what,whom").startswith(
        "1 facts added, 0 removed, 0 un"
    )
    assert changed("add", other, letters).startswith("0 facts added, 0 removed, 1 unchanged")
    assert changed("remove", other, letters).startswith("0 facts added, 1 removed, 0 unchanged")
    assert changed("remove", other, letters, "--ignore-missing").startswith("0 facts added, 0 removed, 1 un")


def test_files_as_people_have_them(tmp_path: Path) -> None:
    model, films, other = make_bundle(tmp_path / "model"), tmp_path / "films.csv", tmp_path / "other"
    films.write_bytes("film;jahr;länge\nDas Boot;1981;149 min\nM;1931;–\n".encode("windows-1252"))

    def added(*arguments: object, given: str | None = None) -> list[str]:
        done = RUNNER.invoke(app, ["facts", "add", str(model), *map(str, arguments)], input=given)
        return done.stderr.strip().splitlines()

    assert "(--encoding windows-1252)" in added(films, "--wide", "--out", other)[-1]
    lines = added(films, "--wide", "--encoding", "windows-1252", "--out", other)
    assert (
        lines[0] == f"{films}: 2 rows of 3 columns, read as a wide table: each row an entity named by 'film'"
    )
    assert lines[-1].startswith("3 facts added, 0 removed, 0 unchanged; wrote")
    lines = added("-", "--out", other, given="sep=;\nhead;relation;tail\na;r;b\na;r;b\n")
    assert lines[0].startswith("1 facts came again and are kept once: -:4: an earlier line has the same fact")
    assert lines[-1].startswith("1 facts added")


def test_a_journal_is_folded_in_before_other_changes(tmp_path: Path) -> None:
    model, new = make_bundle(tmp_path / "model"), tmp_path / "new.csv"
    new.write_text("subject,relation,object\nq1,person/wrote,q2\n")
    count = len(FactoidQA.from_pretrained(model).facts)

    def said(status: int, *arguments: object) -> str:
        done = RUNNER.invoke(app, list(map(str, arguments)))
        assert done.exit_code == status, done.stderr
        return done.stderr.strip().splitlines()[-1]

    assert said(0, "compact", model) == f"nothing to fold in: no write to {model} is outside its folder"
    with ServedModel.open(model) as served:
        served.write([{"add": [["q1", "person/wrote", "letters"]]}])
        assert "serves or changes it, expected no other: stop that process" in said(2, "compact", model)
        assert "serves or changes it" in said(2, "facts", "add", model, new)
    assert "fold them in first, with 'hmn compact" in said(2, "facts", "add", model, new)
    assert said(0, "compact", model) == f"1 writes folded into {model}, which has {count + 1:,} facts now"
    assert said(0, "facts", "add", model, new).endswith(f"with {count + 2:,} facts")
    with ServedModel.open(model) as served:
        assert len(served.facts(subject="q1").facts) == 2 and served.version == 1
    assert "expected that of a saved model" in said(2, "compact", tmp_path / "typo")
