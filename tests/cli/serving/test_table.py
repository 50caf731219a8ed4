"""A file of facts in place of a model: trained once, kept beside the file, served."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hmn.cli.serving.table import model_folder, model_of
from hmn.errors import ConfigError, InUseError
from hmn.qa.factoid_qa import FactoidQA

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from hmn.serve.writes.lock import ServeLock

ROWS = "country,capital\n" + "".join(f"land {n},town {n}\n" for n in range(12))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a second."""
    fit = FactoidQA.fit

    def quick(self: FactoidQA, **settings: object) -> FactoidQA:
        return fit(self, made_questions=60, epochs=1, quiet=True, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(FactoidQA, "fit", quick)


@pytest.mark.usefixtures("small")
def test_the_model_is_trained_once_and_lies_beside_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "lands.csv"
    table.write_text(ROWS)
    folder = model_of(table, wide=True)
    assert folder == tmp_path / "lands-model"
    assert FactoidQA.from_pretrained(folder).facts.fact(0).subject_name == "land 0"
    assert "12 facts; the model goes to" in capsys.readouterr().err

    made = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert model_of(table) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == made
    log = capsys.readouterr().err
    assert "was trained on lands.csv before" in log and "has changed" not in log

    later = folder.stat().st_mtime + 10
    os.utime(table, (later, later))
    model_of(table)
    assert f"lands.csv has changed since: delete {folder} and its journal" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_two_commands_do_not_train_on_one_table_at_a_time(tmp_path: Path) -> None:
    table = tmp_path / "lands.csv"
    table.write_text(ROWS)
    with ServeLock(tmp_path / "lands-model"), pytest.raises(InUseError, match=f"process {os.getpid()} "):
        model_of(table)


@pytest.mark.parametrize(
    ("facts", "folder"),
    [
        ("a/b.tsv.gz", "b-model"),
        ("facts.csv", "facts-model"),
        ("-", "facts-model"),
        ("world.v2.csv", "world-model"),
    ],
)
def test_names_of_folders(facts: str, folder: str) -> None:
    assert model_folder(facts) == folder


def test_a_folder_is_its_own_model(tmp_path: Path) -> None:
    assert model_of(tmp_path) == tmp_path
    with pytest.raises(ConfigError, match="nothing: no such file or folder"):
        model_of(tmp_path / "nothing")


@pytest.mark.usefixtures("small")
def test_a_file_of_the_same_name_in_another_format_does_not_get_its_model(tmp_path: Path) -> None:
    table, other = tmp_path / "lands.csv", tmp_path / "lands.tsv"
    table.write_text(ROWS)
    other.write_text("rivers\tlength\nNile\t6650\nRhine\t1233\n")
    model_of(table, wide=True)
    with pytest.raises(ConfigError, match=r"has the model of lands\.csv, expected that of lands\.tsv"):
        model_of(other, wide=True)
    assert model_of(table, wide=True) == tmp_path / "lands-model"


def test_an_interrupted_training_goes_on_and_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "lands.csv"
    table.write_text(ROWS)
    fit = FactoidQA.fit

    def stopped(self: FactoidQA, **settings: object) -> FactoidQA:
        def stop(done: int, _: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        return fit(self, made_questions=600, epochs=2, quiet=True, on_progress=stop, **settings)  # type: ignore[arg-type]

    def quick(self: FactoidQA, **settings: object) -> FactoidQA:
        return fit(self, made_questions=600, epochs=2, quiet=True, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(FactoidQA, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        model_of(table, wide=True)
    assert "run the same command again to continue" in capsys.readouterr().err

    monkeypatch.setattr(FactoidQA, "fit", quick)
    table.write_text(ROWS + "land 99,town 99\n")
    with pytest.raises(ConfigError, match=r"put them back, or delete .*lands-model\.run"):
        model_of(table, wide=True)
    table.write_text(ROWS)
    assert len(FactoidQA.from_pretrained(model_of(table, wide=True)).facts) == 12


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    table, own = tmp_path / "lands.csv", tmp_path / "lands-model" / "notes.txt"
    table.write_text(ROWS)
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(ConfigError, match="lands-model: it holds something else"):
        model_of(table, wide=True)
    assert own.read_text() == "mine"


@pytest.mark.usefixtures("small")
def test_the_language_of_questions_is_chosen(tmp_path: Path) -> None:
    table = tmp_path / "lands.csv"
    table.write_text(ROWS)
    folder = model_of(table, wide=True, question_language="it")
    assert any("qual è" in text.lower() for text in FactoidQA.from_pretrained(folder).examples)
