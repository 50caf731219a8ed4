"""Facts and questions of the experiments, whole or in miniature."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmn.errors import DataError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.paper.preset import Preset


@dataclass(frozen=True)
class Files:
    """Paths of the data."""

    facts: str
    names: str | None
    train: str
    valid: str
    test: str | None = None
    model: str | None = None
    """Folder of a trained model whose text cells some rows use."""
    transe_facts: str | None = None
    """Larger table of facts that TransE is trained on together with ``facts``."""

    def check(self) -> None:
        """Refuse files that cannot be opened before anything runs, those that no chosen row needs included.

        Raises:
            DataError: one cannot be read, or the folder of the model holds none.
        """
        for path in (self.facts, self.names, self.train, self.valid, self.test, self.transe_facts):
            if path is not None:
                try:
                    with Path(path).open("rb"):
                        pass
                except OSError as error:
                    raise DataError(f"{path}: {error}: expected a readable file") from None
        if self.model is not None:
            self.model_checksum()

    def checksum(self) -> str:
        """16 hexadecimal digits that differ between different data; test questions do not enter.

        Raises:
            DataError: a file cannot be read.
        """
        digest = hashlib.sha256()
        for path in (self.facts, self.names, self.train, self.valid):
            digest.update(hashlib.sha256(_content(path)).digest())
        if self.transe_facts is not None:
            digest.update(hashlib.sha256(_content(self.transe_facts)).digest())
        return digest.hexdigest()[:16]

    def test_checksum(self) -> str | None:
        """The same for the test questions; None if there are none.

        Raises:
            DataError: the file cannot be read.
        """
        return None if self.test is None else hashlib.sha256(_content(self.test)).hexdigest()[:16]

    def model_checksum(self) -> str:
        """16 hexadecimal digits that differ between different trained models.

        Raises:
            DataError: the folder holds no model.
        """
        manifest = Path(self.model or "") / "manifest.json"
        try:
            return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise DataError(f"{manifest}: {error}: expected the folder of a trained model") from None


def _content(path: str | None) -> bytes:
    try:
        return b"" if path is None else Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error}: expected a readable file") from None


@dataclass(frozen=True, eq=False)
class Data:
    """A table of facts and the questions about it.

    Attributes:
        facts: table of N facts, each a cell of the memory.
        asked: questions by their purpose: ``train``, ``valid`` and, if given, ``test``.
    """

    facts: FactTable
    asked: dict[str, QuestionSet]

    @classmethod
    def read(cls, files: Files, preset: Preset) -> Data:
        """Read the files. A miniature has the first questions, their facts, and other facts up to its size.

        Test questions do not change a miniature: it takes those that ask for facts it has anyway.

        Raises:
            DataError: a file is bad, or questions come without their facts.
        """
        facts = FactTable.read(files.facts, files.names)
        paths = {"train": files.train, "valid": files.valid, "test": files.test}
        asked = {name: QuestionSet.read(path, facts) for name, path in paths.items() if path is not None}
        for name, questions in asked.items():
            if bool((questions.cell < 0).any()):
                raise DataError(
                    f"{paths[name]}: a question has no fact, expected four columns: its fact and its text"
                )
        data = cls(facts, asked)
        return data if preset.facts is None else data._part(preset)

    def _part(self, preset: Preset) -> Data:
        """The miniature: its own table of facts, and its questions with their facts' new numbers."""
        asked = {
            name: questions.take(
                np.arange(len(questions))[: preset.train if name == "train" else preset.valid]
            )
            for name, questions in self.asked.items()
            if name != "test"
        }
        cells = self._cells(asked.values(), preset.facts or 0)
        if "test" in self.asked:
            asked["test"] = self._test_part(cells, preset.valid)
        triples = {
            cell: fact[:3]
            for cell, fact in zip(cells, self.facts.facts(np.array(cells, np.int64)), strict=True)
        }
        names = {
            self.facts.entities[entity].as_py(): self.facts.names.of(entity)
            for cell in cells
            for entity in (int(self.facts.subject[cell]), int(self.facts.object[cell]))
        }
        facts = FactTable.from_triples(triples.values(), names)

        def with_numbers(questions: QuestionSet) -> QuestionSet:
            rows = [
                (*triples[int(cell)], text) for cell, text in zip(questions.cell, questions.text, strict=True)
            ]
            return QuestionSet.from_rows(facts, rows)

        return Data(facts, {name: with_numbers(questions) for name, questions in asked.items()})

    def _cells(self, asked: Iterable[QuestionSet], size: int) -> list[int]:
        """Facts of a miniature: those that its questions ask for, and others drawn up to its size."""
        cells = list(dict.fromkeys(int(cell) for questions in asked for cell in questions.cell))
        others = sorted(set(range(len(self.facts))) - set(cells))
        more = max(0, min(size - len(cells), len(others)))
        return cells + random.Random(0).sample(others, more)

    def _test_part(self, cells: list[int], count: int | None) -> QuestionSet:
        """The first test questions that ask for facts of a miniature."""
        test = self.asked["test"]
        within = np.flatnonzero(np.isin(test.cell, cells))[:count]
        if not len(within):
            raise DataError(f"no test question asks for one of the {len(cells)} facts of the miniature")
        return test.take(within)
