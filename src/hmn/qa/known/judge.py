"""Judges whether the answers to questions are in the table, and learns to do so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.network import MemoryNetwork
from hmn.nn.reader import KMIPSReader
from hmn.qa.answer import Answer, AnswerModule
from hmn.qa.cells import Cells
from hmn.qa.encoders.question import QuestionEncoder
from hmn.qa.known.evidence import Asked, Evidence
from hmn.qa.known.head import KnownHead
from hmn.qa.known.seen_words import SeenWords
from hmn.qa.known.strangers import garbled, strangers
from hmn.qa.text import bags_of
from hmn.results import Read

LOOKED_AT = 10
"""Upper limit of cells per question that are looked at."""
DEEP = 64
"""Number of cells that are read in learning, some of which are then taken out."""
TOGETHER = 256
"""Number of questions that are read together in learning."""
MOST_LEARNT = 4096
"""Upper limit of questions that a judge learns from, and of those it is calibrated on."""
MANY_HELD_OUT = 1000
"""Number of held-out questions from which on a judge learns from them, too."""
FEWEST_LEARNT = 2
"""Lower limit of questions that a judge learns from."""
HARDEST = 10
"""Weight in learning of questions that lack their fact alone, of which the best cells fit nearly as well."""
GARBLED = 4
"""Weight in learning of questions that are not understood."""
UNKNOWN_SHARE = 0.05
"""Share of questions whose answer is not in the table, as far as probabilities take it into account."""

Network = MemoryNetwork[list[list[Answer]]]
"""Network that answers questions."""


class Gathered(NamedTuple):
    """Evidence on Q questions as they are, and with facts taken out.

    Attributes:
        known: ``(Q, E)`` as they are.
        right: ``(Q,)`` share of right ones among the facts of the best cell; of several hops, whether the
            best answer is right.
        without_fact: ``(Q, E)`` without the facts that answer them.
        without_subject: ``(Q, E)`` without all facts whose subject has the same name.
        strange: ``(S, E)`` without all facts of the relation, and on other questions that the table does not
            answer.
        garbled: ``(G, E)`` on questions with made-up words in them that are not understood.
        unclear: ``(C, E)`` on such questions that are understood all the same.
    """

    known: Tensor
    right: Tensor
    without_fact: Tensor
    without_subject: Tensor
    strange: Tensor
    garbled: Tensor
    unclear: Tensor


def _sides(seen: Gathered) -> tuple[Tensor, Tensor]:
    """Evidence on questions whose answer is in the table, and on those whose answer is not."""
    hardest = seen.without_fact.repeat(HARDEST, 1)
    known = torch.cat([seen.known, seen.unclear])
    garbled = seen.garbled.repeat(GARBLED, 1)
    return known, torch.cat([hardest, seen.without_subject, seen.strange, garbled])


class Judge(ABC):
    """Judges whether answers are in the table.

    Args:
        network: the network.
        k: number of cells that it reads per question.
        head: turns evidence into probabilities; without it, a new one learns.
    """

    def __init__(self, network: Network, k: int, head: KnownHead | None = None) -> None:
        encoder, memory = network.input_module, network.memory
        assert isinstance(encoder, QuestionEncoder) and isinstance(memory, EncodedMemory)
        self.encoder, self.k = encoder, k
        self.evidence = Evidence(encoder, memory)
        self.head = self._new_head(0) if head is None else head
        self.evidence.seen = SeenWords.unpacked(self.head.seen)

    @property
    def cells(self) -> Cells:
        """The cells of the table."""
        return self.evidence.facts.cells

    @property
    def size(self) -> int:
        """Number of figures of evidence per question, E."""
        return self.evidence.size

    def learn(self, questions: QuestionSet, held_out: QuestionSet | None, seed: int) -> bool:
        """Learn from training questions, and from held-out ones if they are many; calibrate on the latter.

        Args:
            questions: training questions, of which the network knows more than of any others.
            held_out: held-out questions; without them, the training questions calibrate.
            seed: seed of the choice of questions and of training.

        Returns:
            Whether there were enough questions to learn from.
        """
        split = self.cells.splitting
        self.evidence.seen = words = SeenWords.of(
            map(split.plain, split.words(text)) for text in questions.text
        )
        words.least = 2
        seen = self._gathered(questions, seed)
        if seen is None:
            return False
        words.least = 1
        held = None if held_out is None else self._gathered(held_out, seed)
        self.head = self._new_head(seed)
        self.head.seen.copy_(words.packed())
        taught = [seen] if held is None or len(held.known) < MANY_HELD_OUT else [seen, held]
        known, unknown = (torch.cat(parts) for parts in zip(*map(_sides, taught), strict=True))
        self.head.learn(known, unknown, seed)
        calibrated_on = seen if held is None else held
        self.head.calibrate(calibrated_on.known, calibrated_on.without_fact, UNKNOWN_SHARE)
        self.head.set_thresholds(
            calibrated_on.known, calibrated_on.right, calibrated_on.without_fact, UNKNOWN_SHARE
        )
        return True

    def _new_head(self, seed: int) -> KnownHead:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return KnownHead(self.size)

    @torch.no_grad()
    def _gathered(self, questions: QuestionSet, seed: int) -> Gathered | None:
        """Evidence on some of the questions that have a right answer; None if there are too few."""
        asking = np.flatnonzero(np.diff(questions.answer_start) > 0)
        chosen = np.random.default_rng([seed, 4]).permutation(asking)[:MOST_LEARNT]
        if len(chosen) < FEWEST_LEARNT:
            return None
        parts = np.array_split(np.sort(chosen), -(-len(chosen) // TOGETHER))
        gathered = [self._gather(questions, numbers, seed + part) for part, numbers in enumerate(parts)]
        return Gathered(*(torch.cat(column).cpu() for column in zip(*gathered, strict=True)))

    @abstractmethod
    def _gather(self, questions: QuestionSet, numbers: NDArray[np.int64], seed: int) -> Gathered:
        """Evidence on the questions with the given numbers, and on strange ones made from them."""

    def _asked(self, texts: list[str]) -> Asked:
        """Questions in words, encoded."""
        bags = bags_of(texts, self.evidence.facts.bits, self.evidence.facts.splitting)
        query, words = self.encoder.encode(bags)
        return Asked(bags, words, query)


class CellJudge(Judge):
    """Judges the answers of a network of one hop.

    Args:
        network: the network.
        args: as ``Judge`` takes them.
    """

    def __init__(self, network: Network, *args: Any) -> None:
        super().__init__(network, *args)
        assert isinstance(network.output_module, AnswerModule)
        self.reader, self.output, self._looked_at = (
            network.reader,
            network.output_module,
            min(self.k, LOOKED_AT),
        )

    def __call__(self, asked: Asked, read: Read[Tensor | None]) -> Tensor:
        """Probability ``(B,)`` that the answers to questions are in the table."""
        looked_at = slice(self._looked_at)
        known: Tensor = self.head(self.evidence(asked, read.cell[:, looked_at], read.weight[:, looked_at]))
        return known.where((read.cell[:, 0] >= 0).to(known.device), known.new_zeros(()))

    def _gather(self, questions: QuestionSet, numbers: NDArray[np.int64], seed: int) -> Gathered:
        asked = self._asked([questions.text[number] for number in numbers])
        read = self.reader.read(asked.query, min(DEEP, len(self.cells)))
        facts = [questions.right_cells(self.output.facts, int(number)) for number in numbers]
        right = Ragged.of(np.unique(self.cells.of_fact.take(own).flat) for own in facts)
        cell = read.cell.cpu().numpy()
        name = self.cells.subject[np.maximum(cell, 0)]  # (B, DEEP)
        fact, subject, relation = (np.zeros(cell.shape, bool) for _ in range(3))
        lacking = np.zeros((len(numbers), self.evidence.facts.num_relations), bool)
        for row in range(len(numbers)):
            fact[row] = np.isin(cell[row], right.row(row))
            subject[row] = np.isin(name[row], self.cells.subject[right.row(row)])
            lacking[row, self.cells.relation[right.row(row)]] = True
            relation[row] = lacking[row, self.cells.relation[np.maximum(cell[row], 0)]]
        held = [self.cells.facts.row(int(best)) if best >= 0 else best[None] for best in cell[:, 0]]
        hit = [np.isin(found, own).mean() for found, own in zip(held, facts, strict=True)]
        known, without_fact, without_subject, without_relation = (
            self.evidence(asked, *self._left(read, torch.from_numpy(gone).to(read.cell.device)), without)
            for gone, without in (
                (np.zeros_like(fact), None),
                (fact, None),
                (subject, None),
                (relation, torch.from_numpy(lacking).to(read.cell.device)),
            )
        )
        strange = [text for texts in strangers(questions, numbers, self.cells, seed) for text in texts]
        unclear, understood = self._garbled(questions, numbers, right, seed)
        return Gathered(
            known,
            torch.tensor(hit),
            without_fact,
            without_subject,
            torch.cat([without_relation, self._evidence(strange)[0]]),
            unclear[~understood],
            unclear[understood],
        )

    def _garbled(
        self, questions: QuestionSet, numbers: NDArray[np.int64], right: Ragged, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Evidence ``(G, E)`` on questions with made-up words in them, and whether each is understood.

        Where nothing is left to be understood, a right answer is luck, and left out.
        """
        texts, of, is_whole = garbled(questions, numbers, self.cells, seed)
        evidence, best = self._evidence(texts)
        row = np.searchsorted(numbers, of)
        understood = np.array([cell in right.row(at) for cell, at in zip(best, row, strict=True)], np.bool_)
        kept = torch.from_numpy(~(is_whole & understood))
        return evidence[kept.to(evidence.device)], torch.from_numpy(understood)[kept]

    def _evidence(self, texts: list[str]) -> tuple[Tensor, list[int]]:
        """Evidence ``(Q, E)`` on questions in words, with all facts there, and their best cells."""
        if not texts:
            return self.evidence.relations.new_zeros(0, self.size), []
        asked = self._asked(texts)
        read = self.reader.read(asked.query, self.k)
        looked_at = slice(self._looked_at)
        return self.evidence(asked, read.cell[:, looked_at], read.weight[:, looked_at]), read.cell[
            :, 0
        ].tolist()

    def _left(self, read: Read[Tensor | None], gone: Tensor) -> tuple[Tensor, Tensor]:
        """The best cells that are left without some, and their weights: both ``(B, K)``."""
        score = read.score.masked_fill(gone | (read.cell < 0), -torch.inf)
        score, order = score.topk(min(self._looked_at, score.shape[1]), dim=1)
        cell = read.cell.gather(1, order).masked_fill(score == -torch.inf, -1)
        if isinstance(self.reader, KMIPSReader):
            weight = torch.softmax(score[:, : self.reader.k], dim=1).nan_to_num(0.0)
            return cell, F.pad(weight, (0, score.shape[1] - weight.shape[1]))
        # the softmax over all cells: those which are left share the attention of the others
        lost = (read.weight * gone).sum(dim=1, keepdim=True)
        weight = read.weight.gather(1, order) / (1 - lost).clamp(min=torch.finfo(lost.dtype).tiny)
        return cell, weight.masked_fill(cell < 0, 0.0)
