"""Networks that know facts by their weights: they turn a question into its answer without a memory.

Both get the query that the memory network makes of a question, and give a vector that is compared with a
fixed random vector of each entity. They are as large as the memory: as many weights as it has numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 256
"""Features of an entity's vector, C."""
BATCH = 512
"""Number of facts per step."""
DRAWN = 2048
"""Number of random entities beside the right ones that the softmax of a step runs over."""
SCALE = 20.0
"""Initial factor of the cosines in the softmax."""
HEADS, BEST, HALF = 4, 32, 128
"""Heads of the product-key memory, slots read per head, and features of half a key (Lample et al. 2019)."""
LEARNED = 0.95
"""Share of the facts taught that a training stops at."""
PATIENCE, LEAST_GAIN = 4, 0.002
"""Number of epochs without a gain of this size in the share that is learned, which end a training."""


class Dense(nn.Module):
    """A perceptron with two hidden layers of equal size.

    Args:
        features: Features of a query, D.
        weights: Approximate number of weights.
    """

    def __init__(self, features: int, weights: int) -> None:
        super().__init__()
        ends = features + FEATURES
        hidden = int((-ends + (ends**2 + 4 * weights) ** 0.5) / 2)
        self.layers = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, FEATURES),
        )

    def forward(self, query: Tensor) -> Tensor:
        """Vectors ``(B, C)`` for queries ``(B, D)``."""
        found: Tensor = self.layers(query)
        return found


class ProductKeys(nn.Module):
    """A product-key memory (Lample et al. 2019): a key is one of n first and one of n second halves.

    Args:
        features: Features of a query, D.
        weights: Approximate number of weights: those of the values of the n * n slots.
    """

    def __init__(self, features: int, weights: int) -> None:
        super().__init__()
        self.halves = max(BEST, round((weights / FEATURES) ** 0.5))
        self.norm = nn.LayerNorm(features)
        self.query = nn.Linear(features, HEADS * 2 * HALF)
        self.spread = nn.BatchNorm1d(HEADS * 2 * HALF)  # without it, few slots are ever read
        self.key = nn.Parameter(torch.randn(HEADS, 2, self.halves, HALF) / HALF**0.5)
        self.value = nn.EmbeddingBag(self.halves**2, FEATURES, mode="sum", sparse=True)
        nn.init.normal_(self.value.weight, std=FEATURES**-0.5)

    def forward(self, query: Tensor) -> Tensor:
        """Vectors ``(B, C)`` for queries ``(B, D)``."""
        weight, slot = self.slots(query)
        found: Tensor = self.value(slot.flatten(1), per_sample_weights=weight.flatten(1))
        return found

    def slots(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers ``(B, heads, K)`` of the slots that are read: the best of all n * n."""
        asked = self.spread(self.query(self.norm(query))).view(len(query), HEADS, 2, HALF)
        score = torch.einsum("bhcd,hcnd->bhcn", asked, self.key)  # (B, heads, 2, n)
        best = score.topk(BEST, dim=3)
        first, second = best.values.unbind(dim=2)  # (B, heads, K) each
        both = (first.unsqueeze(3) + second.unsqueeze(2)).flatten(2)  # (B, heads, K * K)
        found = both.topk(BEST, dim=2)
        row, column = found.indices // BEST, found.indices % BEST
        first_half, second_half = best.indices.unbind(dim=2)
        slot = first_half.gather(2, row) * self.halves + second_half.gather(2, column)
        return torch.softmax(found.values, dim=2), slot


KINDS: dict[str, Callable[[int, int], nn.Module]] = {"product keys": ProductKeys, "dense": Dense}
"""The networks, by name."""


@dataclass(frozen=True)
class Taught:
    """What a training reached: epochs, seconds, and the share of the facts taught that it answers."""

    epochs: int
    seconds: float
    learned: float


class Parametric:
    """A network that answers questions from its weights.

    Args:
        kind: Name of the network.
        features: Features of a query, D.
        weights: Approximate number of weights.
        entities: Number of entities.
        seed: Seed of the weights, the entities' vectors and the order of training.
    """

    def __init__(self, kind: str, features: int, weights: int, entities: int, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.code = F.normalize(torch.randn(entities, FEATURES), dim=1)
        self.network = KINDS[kind](features, weights)
        self.scale = nn.Parameter(torch.tensor(SCALE).log())

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.network.parameters())

    def teach(
        self, query: Tensor, answer: Tensor, *, rate: float, most_epochs: int, further: bool = False
    ) -> Taught:
        """Train on queries ``(M, D)`` with their answers ``(M,)`` until nearly all are answered.

        Args:
            query: The queries.
            answer: Numbers of the entities.
            rate: Learning rate of Adam.
            most_epochs: Upper limit of the epochs.
            further: Whether the network is trained already: the statistics of its normalisation stay.
        """
        sparse = [weight for name, weight in self.network.named_parameters() if name == "value.weight"]
        dense = [weight for name, weight in self.network.named_parameters() if name != "value.weight"]
        steps = [torch.optim.Adam([*dense, self.scale], lr=rate)]
        if sparse:
            # few steps touch each value: its rate is ten times that of the rest, as in the paper
            steps.append(torch.optim.SparseAdam(sparse, lr=10 * rate))  # type: ignore[arg-type]
        began, learned, epoch = time.process_time(), 0.0, 0
        best, best_epoch = 0.0, 0
        while epoch < most_epochs and learned < LEARNED and epoch - best_epoch < PATIENCE:
            epoch += 1
            self.network.train(not further)
            right = 0
            for rows in torch.split(torch.randperm(len(query)), BATCH):
                loss, hits = self._loss(query[rows], answer[rows])
                for step in steps:
                    step.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                for step in steps:
                    step.step()
                right += hits
            learned = right / len(query)
            if learned >= best + LEAST_GAIN:
                best, best_epoch = learned, epoch
            spent = time.process_time() - began
            print(
                f"epoch {epoch}: {learned:.3f} of {len(query):,} facts and questions, {spent:.0f} s",
                flush=True,
            )
        return Taught(epoch, time.process_time() - began, learned)

    def _loss(self, query: Tensor, answer: Tensor) -> tuple[Tensor, int]:
        """The loss of a softmax over the batch's answers and random entities, and how many are right."""
        if len(query) == 1:  # which batch normalisation cannot take
            query, answer = query.repeat(2, 1), answer.repeat(2)
        drawn = torch.randint(len(self.code), (DRAWN,))
        entity, target = torch.unique(torch.cat([answer, drawn]), return_inverse=True)
        target = target[: len(answer)]
        score = self.scale.exp() * F.normalize(self.network(query), dim=1) @ self.code[entity].T
        return F.cross_entropy(score, target), int((score.argmax(dim=1) == target).sum())

    @torch.no_grad()
    def accuracy(self, query: Tensor, answers: list[NDArray[np.int32]], objects: Tensor) -> float:
        """Share of queries ``(Q, D)`` whose best entity among ``objects`` is a right answer."""
        self.network.eval()
        best: list[int] = []
        for part in torch.split(query, BATCH):
            best += objects[(self.network(part) @ self.code[objects].T).argmax(dim=1)].tolist()
        return float(np.mean([entity in right for entity, right in zip(best, answers, strict=True)]))
