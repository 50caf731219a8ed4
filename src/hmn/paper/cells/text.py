"""Fixed cells from a trained question-answering model: its text cells, in place of TransE's."""

from __future__ import annotations

from torch import Tensor

from hmn.errors import ConfigError
from hmn.paper.data import Data
from hmn.qa.cells import Cells
from hmn.qa.factoid_qa import FactoidQA


def text_cells(model: str, data: Data) -> tuple[Tensor, Cells]:
    """Keys ``(N, D)`` of a model's cells, and the facts that they stand for.

    A cell is a distinct pair of a subject's name and a relation. Facts that read the same share a cell, and a
    fact whose subject has several names has several cells.

    Args:
        model: folder that ``hmn train`` wrote, on the same facts and names.
        data: data whose facts the cells must stand for.

    Raises:
        BundleError: the folder holds no such model.
        ConfigError: the model has another table of facts.
    """
    qa = FactoidQA.from_pretrained(model, index="exact")
    ours, theirs = data.facts, qa.facts
    same = ours.relations == theirs.relations and ours.entities.equals(theirs.entities)
    same = same and all(
        getattr(ours, name).tobytes() == getattr(theirs, name).tobytes()
        for name in ("subject", "relation", "object")
    )
    if not same:
        raise ConfigError(
            f"{model}: it was trained on another table of facts: train it on the same files "
            "(a miniature has a table of its own)"
        )
    return qa.memory.snapshot().clone(), qa.cells
