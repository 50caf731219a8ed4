"""Fixed cells from a trained model of the main job: its text cells in place of TransE's."""

from __future__ import annotations

from torch import Tensor

from hmn.errors import ConfigError
from hmn.paper.data import Data
from hmn.qa.cells import Cells
from hmn.qa.factoid_qa import FactoidQA


def text_cells(model: str, data: Data) -> tuple[Tensor, Cells]:
    """Keys of a model's cells and the facts that they stand for.

    A cell is a distinct (name of a subject, relation), so facts that read the same share one, and a fact of a
    subject with several names has several.

    Args:
        model: folder that ``hmn train`` wrote, with the same facts and names.
        data: whose facts the cells must stand for.

    Raises:
        BundleError: the folder is no such model.
        ConfigError: its table of facts is another one.
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
            f"{model}: it was trained on another table of facts than this one: train it on the same files "
            "(a preset in miniature has a table of its own)"
        )
    return qa.memory.snapshot().clone(), qa.cells
