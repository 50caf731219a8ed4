"""Asks a trained model: answers with whether the table holds them, and figures on questions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.index.watch import watching
from hmn.qa.answer import Answer, AnswerModule, Answers, Attended, Trace
from hmn.qa.config import checked_k
from hmn.qa.hops.evaluate import BATCH, evaluate_chains
from hmn.qa.hops.network import Asked as Question
from hmn.qa.hops.network import HopNetwork, about, reading
from hmn.qa.known.chain_judge import ChainJudge
from hmn.qa.known.evidence import Asked
from hmn.qa.known.head import KnownHead
from hmn.qa.known.judge import CellJudge
from hmn.qa.metrics import Evaluation, Outcome, evaluate
from hmn.qa.text import WordBags, bags_of, checked_questions
from hmn.results import Read

if TYPE_CHECKING:
    from hmn.qa.build import Network
    from hmn.qa.factoid_qa import FactoidQA


def make_judge(network: Network, k: int, head: KnownHead | None = None) -> CellJudge | ChainJudge:
    """What judges whether the answers of a network are in the table; without a head it has to learn.

    Args:
        network: The network.
        k: Number of cells that it reads per question.
        head: What was learned.
    """
    if isinstance(network, HopNetwork):
        return ChainJudge(network, k, head)
    return CellJudge(network, k, head)


def ask_all(model: FactoidQA, questions: Iterable[str], k: int) -> list[Answers]:
    """See ``FactoidQA.ask_all``."""
    k, asked = checked_k(k), checked_questions(questions, model.cells.splitting)
    network = model.network.eval()
    if not asked:
        return []
    read = min(max(k, model.config.k), len(model.cells))
    if isinstance(network, HopNetwork):
        return _follow(model, network, about(asked, model.facts, model.config), read, k)
    bags = bags_of(asked, model.config.feature_bits, model.cells.splitting)
    found, known = _read(model, bags, read)
    return _shown(model, found, known, k)


def trace(model: FactoidQA, question: str, k: int) -> Trace:
    """See ``FactoidQA.trace``."""
    with watching() as searches:
        k, asked = checked_k(k), checked_questions([question], model.cells.splitting)
        network = model.network.eval()
        read = min(max(k, model.config.k), len(model.cells))
        if isinstance(network, HopNetwork):
            answers = _follow(model, network, about(asked, model.facts, model.config), read, k)[0]
            return Trace(answers, searches, [])
        found, known = _read(model, bags_of(asked, model.config.feature_bits, model.cells.splitting), read)
        answers = _shown(model, found, known, k)[0]
    attended = []
    for cell, weight in zip(found.cell[0].tolist(), found.weight[0].tolist(), strict=True):
        if cell >= 0:
            held = model.cells.facts.row(cell)
            attended.append(Attended(model.facts.fact(int(held[0])), weight, len(held)))
    return Trace(answers, searches, attended)


def _read(model: FactoidQA, bags: WordBags, read: int) -> tuple[Read[Tensor | None], Tensor | None]:
    """The cells that a network of one hop reads, and the probability ``(B,)`` that they hold the answer."""
    network, judge = model.network, model.judge
    query, as_read = network.input_module.encode(bags)  # type: ignore[operator]
    found = network.reader.read(query, read)
    return found, judge(Asked(bags, as_read, query), found) if isinstance(judge, CellJudge) else None


def _shown(model: FactoidQA, found: Read[Tensor | None], known: Tensor | None, k: int) -> list[Answers]:
    """Answers of a network of one hop, from what it has read."""
    output = model.network.output_module
    assert isinstance(output, AnswerModule)
    return _judged(model, output(found, k), known, found.reads.tolist(), k)


def _follow(model: FactoidQA, network: HopNetwork, question: Question, read: int, k: int) -> list[Answers]:
    """Answers of a network of several hops."""
    chains = network.read(question, read)
    readings = network.output_module.readings(chains)
    judge = model.judge
    known = judge(question, chains, readings) if isinstance(judge, ChainJudge) else None
    return _judged(model, network.output_module.shown(readings), known, chains.reads.sum(axis=1).tolist(), k)


def _judged(
    model: FactoidQA, found: list[list[Answer]], known: Tensor | None, reads: list[float], k: int
) -> list[Answers]:
    """The ``k`` best answers to each question, with the probability ``(B,)`` that the table holds them."""
    if known is None or model.judge is None:
        return [Answers(ranked[:k], reads=count) for ranked, count in zip(found, reads, strict=True)]
    threshold = model.judge.head.threshold(model.config.precision)
    return [
        Answers(ranked[:k], probability, threshold, count)
        for ranked, probability, count in zip(found, known.double().tolist(), reads, strict=True)
    ]


def evaluate_all(
    model: FactoidQA, questions: QuestionSet, k: int, topics: bool, outcomes: list[Outcome] | None
) -> Evaluation:
    """See ``FactoidQA.evaluate``."""
    k, network = checked_k(k), model.network.eval()
    if isinstance(network, HopNetwork):
        read = reading(network, questions, model.config, topics=topics)
        figures = evaluate_chains(read, network.output_module, questions, k=k, outcomes=outcomes)
    else:
        figures = _evaluate_cells(model, network, questions, k, outcomes)
    return (
        figures
        if model.judge is None
        else replace(figures, known_share=_known_share(model, questions, topics))
    )


def _evaluate_cells(
    model: FactoidQA, network: Network, questions: QuestionSet, k: int, outcomes: list[Outcome] | None
) -> Evaluation:
    """Figures of a network of one hop."""

    def encode(numbers: NDArray[np.int64]) -> Tensor:
        return model._queries([questions.text[number] for number in numbers])

    searcher = network.reader.searcher
    # exact search reads and finds the same for any k, so one search serves accuracies and ranks
    exact = searcher is network.indexed and not network.indexed.index.has_structure
    return evaluate(
        encode,
        searcher,
        model.facts,
        model.cells,
        questions,
        k=k,
        read=None if exact else min(model.config.k, len(model.cells)),
        outcomes=outcomes,
    )


def _known_share(model: FactoidQA, questions: QuestionSet, topics: bool) -> float:
    """Share of questions whose answer counts as known: they are read again, as ``ask`` reads them."""
    judge, network, config = model.judge, model.network, model.config
    assert judge is not None
    threshold, known = judge.head.threshold(config.precision), 0
    for first in range(0, len(questions), BATCH):
        numbers = np.arange(first, min(first + BATCH, len(questions)))
        bags = bags_of(
            [questions.text[number] for number in numbers], config.feature_bits, model.cells.splitting
        )
        if isinstance(network, HopNetwork):
            assert isinstance(judge, ChainJudge)
            asked = Question(bags, questions.topic[numbers].astype(np.int64) if topics else None)
            chains = network.read(asked, min(config.k, len(model.cells)))
            probability = judge(asked, chains, network.output_module.readings(chains))
        else:
            _, found = _read(model, bags, min(config.k, len(model.cells)))
            assert found is not None
            probability = found
        known += int((probability.double() >= threshold).sum())
    return known / len(questions)
