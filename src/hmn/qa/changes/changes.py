"""Adds facts to a trained model, removes and replaces them: no training, and a cost per fact alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hmn.errors import DataError, ReadOnlyError, check_flag
from hmn.facts.changing import ChangingTable
from hmn.facts.files.source import Source
from hmn.facts.ids import relation_text
from hmn.facts.names import collect_names, read_names
from hmn.facts.numbering import NumberedFacts, checked_triples, distinct_facts, with_inverse
from hmn.facts.table import FactTable
from hmn.nn.candidates.search import StrategySearch
from hmn.qa.changes.cells import ChangingCells
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.pretrained import PretrainedPhrasing, open_encoder
from hmn.qa.hops.graph import Graph
from hmn.qa.hops.network import HopNetwork

if TYPE_CHECKING:
    from hmn.qa.factoid_qa import FactoidQA

GivenFacts = Iterable[Sequence[str]] | Path | str | FactTable
"""Facts as a user gives them: rows of (subject, relation, object), the path of a file, or a table."""
GivenNames = Mapping[str, Sequence[str]] | Path | str
"""Names as a user gives them: lists of names by entity, or the path of a file."""
SHOWN = 3
"""Number of facts that a message shows."""


class FactChange(NamedTuple):
    """What a change did.

    Attributes:
        added: Number of facts that were added.
        removed: Number of facts that were removed.
        unchanged: Number of given facts that were as they should be already.
    """

    added: int
    removed: int
    unchanged: int


def add_facts(model: FactoidQA, facts: GivenFacts, names: GivenNames | None) -> FactChange:
    """See ``FactoidQA.add_facts``."""
    _refuse_ranks(model)
    return _change(model, _table_of(facts, names), replace=False)


def replace_facts(model: FactoidQA, facts: GivenFacts, names: GivenNames | None) -> FactChange:
    """See ``FactoidQA.replace_facts``."""
    _refuse_ranks(model)
    return _change(model, _table_of(facts, names), replace=True)


def remove_facts(model: FactoidQA, facts: GivenFacts, ignore_missing: bool) -> FactChange:
    """See ``FactoidQA.remove_facts``."""
    _refuse_ranks(model)
    check_flag("ignore_missing", ignore_missing)
    given = _table_of(facts, None)
    table, _ = _changing(model)
    cells = table.cells_of(*_columns(given))
    missing = np.flatnonzero(cells < 0)
    if len(missing) and not ignore_missing:
        shown = "; ".join(str(fact[:3]) for fact in given.facts(missing[:SHOWN]))
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise DataError(
            f"the table does not have {shown}{more}, expected facts that are there: "
            "leave them out, or give ignore_missing (--ignore-missing)"
        )
    there = cells[cells >= 0]
    _remove(model, there)
    return FactChange(0, len(there), len(missing))


def _change(model: FactoidQA, given: FactTable, *, replace: bool) -> FactChange:
    """Add facts and, where they replace others, remove the other facts of their pairs."""
    table, _ = _changing(model)
    relations = len(table.relations)
    added, renamed = table.add(_both_ways(given) if table.has_inverses else given)
    if len(table.relations) > relations:
        _add_relations(model, relations)
    _place(model, np.unique(np.concatenate([added, *(_facts_of(model, entity) for entity in renamed)])))
    new, removed = len(added), 0
    if table.has_inverses:  # which were added as well
        new = int(np.isin(table.cells_of(*_columns(given)), added).sum())
    if replace:
        kept = table.cells_of(*_columns(given))
        others = np.setdiff1d(table.cells_of_pairs(np.unique(table.pair[kept])).flat, kept)
        _remove(model, others)
        removed = len(others)
    return FactChange(new, removed, len(given) - new)


def _remove(model: FactoidQA, cells: NDArray[np.int64]) -> None:
    """Remove facts, and their inverses where the table has these."""
    table, _ = _changing(model)
    if table.has_inverses:
        cells = np.union1d(cells, table.inverses_of(cells))
    if len(cells) and len(cells) == len(table):
        raise DataError(
            f"all {len(table)} facts are to be removed, expected at least one that stays: "
            "add the new facts first, or train another model"
        )
    table.remove(cells)
    _place(model, np.zeros(0, np.int64), cells)


def _place(model: FactoidQA, facts: NDArray[np.int64], removed: NDArray[np.int64] | None = None) -> None:
    """Put facts into their cells, and let memory and index follow."""
    _, cells = _changing(model)
    memory, indexed = model.memory, model.network.indexed
    indexed.in_step()  # the index holds all cells of before, so that only the changed ones are filed
    new, empty = cells.place(facts, np.zeros(0, np.int64) if removed is None else removed)
    with torch.inference_mode(False), torch.no_grad():
        _write_texts(model, new)
        indexed.add(torch.from_numpy(new))
        indexed.remove(torch.from_numpy(empty))
    searcher = model.network.reader.searcher
    if isinstance(searcher, StrategySearch):
        searcher.keys = memory.snapshot()


def _changing(model: FactoidQA) -> tuple[ChangingTable, ChangingCells]:
    """The table and the cells of a model, which change from now on, wherever the network looks at them."""
    facts, cells, network = model.facts, model.cells, model.network
    if not isinstance(facts, ChangingTable) or not isinstance(cells, ChangingCells):
        network.indexed.in_step()
        facts = ChangingTable(facts)
        cells = ChangingCells(cells, facts)
        model.facts, model.cells = facts, cells
        _encoder(model).cells = cells
        network.output_module.facts, network.output_module.cells = facts, cells  # type: ignore[attr-defined]
        if isinstance(network, HopNetwork):
            network.chains.graph = Graph(facts, cells)
    return facts, cells


def _encoder(model: FactoidQA) -> FactEncoder:
    encoder = model.memory.encoder
    assert isinstance(encoder, FactEncoder)
    return encoder


def _facts_of(model: FactoidQA, entity: int) -> NDArray[np.int64]:
    """The facts whose cells have a name of an entity."""
    table = model.facts
    own = table.cells_of_pairs(table.pairs_of(np.array([entity])).flat).flat
    return own if model.cells.object is None else np.union1d(own, table.cells_with_object(entity))


def _add_relations(model: FactoidQA, known: int) -> None:
    """Let the encoder know the relations from number ``known`` on."""
    relations, sentences = model.facts.relations[known:], None
    if _encoder(model).sentences is not None:
        spelled = [relation_text(relation) for relation in relations]
        sentences = _pretrained(model.config.encoder).sentences(spelled)
    _encoder(model).add_relations(relations, sentences)


def _write_texts(model: FactoidQA, cells: NDArray[np.int64]) -> None:
    """Give the encoder the pretrained vectors of the texts of new cells, if it has any."""
    if _encoder(model).texts is None or not len(cells):
        return
    relations = [relation_text(relation) for relation in model.facts.relations]
    texts = model.cells.texts(relations, cells)
    _encoder(model).put_texts(torch.from_numpy(cells), _pretrained(model.config.encoder).sentences(texts))


@lru_cache(maxsize=1)
def _pretrained(name: str) -> PretrainedPhrasing:
    """The pretrained encoder as it was before training, which the vectors of all other texts come from."""
    return PretrainedPhrasing(open_encoder(name), 0, 0.0).eval()


def _refuse_ranks(model: FactoidQA) -> None:
    """Refuse to change a table whose cells lie on several ranks.

    Raises:
        ReadOnlyError: They do.
    """
    if model.ranks is not None:
        raise ReadOnlyError(
            f"the cells lie on {model.ranks.size} ranks, which cannot change them: change the facts on one "
            "machine, save the model, and load it on the ranks again"
        )


def _table_of(facts: GivenFacts, names: GivenNames | None) -> FactTable:
    """Facts and names as a user gives them, as a table.

    Raises:
        DataError: They cannot be read, or are no facts.
    """
    if isinstance(facts, FactTable):
        if names is not None:
            raise DataError("names are given beside a FactTable, which has its own: give one or the other")
        return facts
    if isinstance(facts, (str, Path)):
        if names is None or isinstance(names, (str, Path)):
            return FactTable.read(facts, names)
        read = FactTable.read(facts)
        facts = [fact[:3] for fact in read.facts(np.arange(len(read)))]
    if isinstance(names, (str, Path)):
        numbered, _ = distinct_facts(checked_triples(facts, Source("facts")), Source("facts"))
        ranked = read_names(Source(names), None)
        return FactTable.of(numbered, collect_names(ranked, numbered.entities))
    return FactTable.from_triples(facts, names)  # type: ignore[arg-type]  # it checks the rows


def _both_ways(given: FactTable) -> FactTable:
    """A table with the inverses of its facts."""
    entities = given.entities.to_pylist()
    numbered = NumberedFacts(entities, given.relations, given.subject, given.relation, given.object)
    return FactTable.of(with_inverse(numbered), given.names, given.skipped)


def _columns(given: FactTable) -> tuple[list[str], list[str], list[str]]:
    """Ids of the subjects, relations and objects of a table."""
    ids = given.entities.to_pylist()
    return (
        [ids[number] for number in given.subject],
        [given.relations[number] for number in given.relation],
        [ids[number] for number in given.object],
    )
