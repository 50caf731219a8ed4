"""Facts and questions of the experiments, whole or in miniature."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmn.errors import DataError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.paper.preset import Preset


@dataclass(frozen=True)
class Files:
    """Where the data lie."""

    facts: str
    names: str | None
    train: str
    valid: str
    test: str | None = None
    model: str | None = None
    """Folder of a trained model whose text cells are used as well."""
    transe_facts: str | None = None
    """A larger table of facts on which, and the own one, TransE is trained."""

    def checksum(self) -> str:
        """A number that differs between different data, 16 hexadecimal digits; the test is no part of it.

        Raises:
            DataError: a file cannot be read.
        """
        total = hashlib.sha256()
        for path in (self.facts, self.names, self.train, self.valid):
            total.update(hashlib.sha256(_content(path)).digest())
        if self.transe_facts is not None:
            total.update(hashlib.sha256(_content(self.transe_facts)).digest())
        return total.hexdigest()[:16]

    def test_checksum(self) -> str | None:
        """The same for the test questions, None if there are none.

        Raises:
            DataError: the file cannot be read.
        """
        return None if self.test is None else hashlib.sha256(_content(self.test)).hexdigest()[:16]

    def model_checksum(self) -> str:
        """A number that differs between different trained models.

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
        facts: N facts, each a cell of the memory.
        asked: questions by what they are for: ``train``, ``valid`` and, if given, ``test``.
    """

    facts: FactTable
    asked: dict[str, QuestionSet]

    @classmethod
    def read(cls, files: Files, preset: Preset) -> Data:
        """Read the files; a miniature holds the first questions, their facts, and others up to its size.

        The test changes nothing of a miniature: its questions are those that ask for facts that it holds.

        Raises:
            DataError: a file is bad, or questions come without their facts.
        """
        facts = FactTable.read(files.facts, files.names)
        paths = {"train": files.train, "valid": files.valid, "test": files.test}
        asked = {name: QuestionSet.read(path, facts) for name, path in paths.items() if path is not None}
        for name, questions in asked.items():
            if bool((questions.cell < 0).any()):
                raise DataError(f"{paths[name]}: expected questions with their facts, four columns")
        data = cls(facts, asked)
        return data if preset.facts is None else data._part(preset)

    def _part(self, preset: Preset) -> Data:
        taken = {}
        held = {name: one for name, one in self.asked.items() if name != "test"}
        for name, questions in held.items():
            wanted = preset.train if name == "train" else preset.valid
            taken[name] = questions.take(np.arange(len(questions))[:wanted])
        cells = list(dict.fromkeys(int(cell) for one in taken.values() for cell in one.cell))
        others = sorted(set(range(len(self.facts))) - set(cells))
        more = max(0, min((preset.facts or 0) - len(cells), len(others)))
        cells += random.Random(0).sample(others, more)
        if "test" in self.asked:
            test = self.asked["test"]
            within = np.flatnonzero(np.isin(test.cell, cells))[: preset.valid]
            if not len(within):
                raise DataError(f"no test question asks for one of the {len(cells)} facts of the miniature")
            taken["test"] = test.take(within)
        rows = {cell: self.facts.fact(cell)[:3] for cell in cells}
        names = {
            self.facts.entities[entity].as_py(): self.facts.names.of(entity)
            for cell in cells
            for entity in (int(self.facts.subject[cell]), int(self.facts.object[cell]))
        }
        facts = FactTable.from_triples(rows.values(), names)
        return Data(
            facts,
            {
                name: QuestionSet.from_rows(
                    facts,
                    [(*rows[int(cell)], text) for cell, text in zip(one.cell, one.text, strict=True)],
                )
                for name, one in taken.items()
            },
        )
