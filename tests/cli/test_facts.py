from __future__ import annotations

from pathlib import Path

from tests.fuzz.bundles import make_bundle
from typer.testing import CliRunner

from hmn.cli.app import app
from hmn.qa.factoid_qa import FactoidQA

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
    assert changed("remove", other, letters, "--ignore-missing").startswith("0 facts added, 0 removed, 1 un")
