"""From evidence to the probability that an answer is in the table, and to the decision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.qa.known.seen_words import SeenWords

HIDDEN = 32
"""Number of hidden units."""
STEPS = 1200
"""Number of steps of training."""
BATCH = 1024
"""Pieces of evidence per step."""
LEARNING_RATE = 1e-2
"""Learning rate of all steps but the last quarter, which has a tenth of it."""
SAME = 0.01
"""Standard deviation up to which a figure counts as the same in all questions."""
FARTHEST = 6.0
"""Upper limit of standard deviations that a figure counts as off its mean."""
USUAL = 0.02
"""Share of known questions that are less probable than what is usual for one."""
ANSWERED = 0.1
"""Share of the known questions that must be answered, for a precision to count as one that there is."""
PRECISIONS = 100
"""Number of precisions whose thresholds are kept: 0, 0.01 and so on, up to 0.99."""


class KnownHead(nn.Module):
    """Judges by the evidence on a question whether its answer is in the table.

    Args:
        size: number of figures of evidence, E.

    Attributes:
        seen: the words of the training questions; see ``SeenWords.packed``.
        thresholds: ``(100,)`` probability from which the answers to held-out questions, half of which had
            their facts taken out, are right with a precision of 0, 0.01, ..., 0.99.
    """

    mean: Tensor
    spread: Tensor
    slope: Tensor
    shift: Tensor
    seen: Tensor
    thresholds: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(size, HIDDEN), nn.Linear(HIDDEN, 1)
        for name, value in (("mean", torch.zeros(size)), ("spread", torch.ones(size))):
            self.register_buffer(name, value)
        for name, value in (("slope", torch.ones(())), ("shift", torch.zeros(()))):
            self.register_buffer(name, value)
        self.register_buffer("seen", SeenWords().packed())
        self.register_buffer("thresholds", torch.full((PRECISIONS,), 0.5))

    def logit(self, evidence: Tensor) -> Tensor:
        """Logits ``(B,)`` for evidence ``(B, E)``, before they are calibrated."""
        evidence = ((evidence.to(self.mean) - self.mean) / self.spread).clamp(-FARTHEST, FARTHEST)
        hidden = F.gelu(self.first(evidence))
        logit: Tensor = self.second(hidden).squeeze(1)
        return logit

    def forward(self, evidence: Tensor) -> Tensor:
        """Probability ``(B,)`` that the answer is in the table, for evidence ``(B, E)``."""
        # evidence that is too large to be judged, as of a damaged model, counts as none
        return torch.sigmoid(self.slope * self.logit(evidence) + self.shift).nan_to_num(0.0)

    def threshold(self, precision: float) -> float:
        """Probability from which an answer counts as known, for a precision from 0 to 1."""
        at = min(int(np.ceil(round(precision * PRECISIONS, 6))), PRECISIONS - 1)
        return float(self.thresholds[at])

    def learn(self, known: Tensor, unknown: Tensor, seed: int) -> None:
        """Train on evidence.

        Args:
            known: ``(n, E)`` evidence on questions whose answer is in the table.
            unknown: ``(m, E)`` evidence on questions whose answer is not. In sum they weigh as much.
            seed: seed of the first weights and of the order.
        """
        evidence = torch.cat([known, unknown])
        self.mean.copy_(evidence.mean(dim=0))
        # what was the same in all questions says nothing, however it differs in those that come later
        spread = evidence.std(dim=0)
        self.spread.copy_(spread.where(spread > SAME, 1.0))
        target = torch.cat([torch.ones(len(known)), torch.zeros(len(unknown))])
        weight = torch.cat([torch.ones(len(known)), torch.full((len(unknown),), len(known) / len(unknown))])
        optimiser = torch.optim.AdamW(self.parameters(), LEARNING_RATE, weight_decay=1e-2)
        rng = np.random.default_rng([seed, 5])
        for step in range(STEPS):
            if step == STEPS * 3 // 4:
                optimiser.param_groups[0]["lr"] = LEARNING_RATE / 10
            rows = torch.from_numpy(rng.integers(len(evidence), size=BATCH))
            logit = self.logit(evidence[rows])
            loss = F.binary_cross_entropy_with_logits(logit, target[rows], weight=weight[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    @torch.no_grad()
    def calibrate(self, known: Tensor, unknown: Tensor, unknown_share: float) -> None:
        """Fit slope and shift, so that probabilities are those of questions of which a share is unknown.

        Args:
            known: ``(n, E)`` evidence on held-out questions whose answer is in the table.
            unknown: ``(m, E)`` evidence on questions whose answer is not.
            unknown_share: share of the latter among the questions that people ask.
        """
        logit = torch.cat([self.logit(known), self.logit(unknown)]).double()
        # targets short of 1 and 0, as Platt (1999) has them, so that data which are apart have a finite slope
        most, least = (len(known) + 1) / (len(known) + 2), 1 / (len(unknown) + 2)
        target = torch.cat([torch.full((len(known),), most), torch.full((len(unknown),), least)]).double()
        ratio = unknown_share / (1 - unknown_share) * len(known) / len(unknown)
        weight = torch.cat([torch.ones(len(known)), torch.full((len(unknown),), ratio)]).double()
        line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = F.binary_cross_entropy_with_logits(line[0] * logit + line[1], target, weight=weight)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with torch.enable_grad():
            optimiser.step(closure)  # type: ignore[no-untyped-call]
        self.slope.copy_(line.detach()[0])
        self.shift.copy_(line.detach()[1])

    @torch.no_grad()
    def set_thresholds(self, known: Tensor, right: Tensor, unknown: Tensor, unknown_share: float) -> None:
        """Find the smallest thresholds that give each precision, or the largest hundredth that there is.

        Few held-out questions may be far from all others, which leaves thresholds open. So what counts as
        known must also have this probability, if half of all questions are known; or be as likely as 98 of
        a hundred questions whose answer is there.

        Args:
            known: ``(n, E)`` evidence on held-out questions whose answer is in the table.
            right: ``(n,)`` whether the best cell is right.
            unknown: ``(m, E)`` evidence on as many whose answer is not, so that half of all are.
            unknown_share: share of unknown ones that the probabilities suppose; see ``calibrate``.
        """
        probability = torch.cat([self(known), self(unknown)]).double().numpy()
        hit = np.concatenate([right.double().numpy(), np.zeros(len(unknown))])
        order = np.argsort(-probability, kind="stable")
        precision = np.cumsum(hit[order]) / np.arange(1, len(order) + 1)
        # a threshold says that all questions above it are answered: equal probabilities go together
        ends = np.flatnonzero(np.diff(probability[order], append=-1.0))
        precision, at = precision[ends], probability[order][ends]
        largest = precision[(ends + 1 >= ANSWERED * len(known)) | (ends == ends[-1])].max()
        largest = np.floor(largest * PRECISIONS) / PRECISIONS
        below = np.append(at[1:], 0.0)
        usual = np.quantile(probability[: len(known)], USUAL)
        self.thresholds[0] = 0.0
        for step in range(1, PRECISIONS):
            share = step / PRECISIONS
            odds = share / (1 - share) * (1 - unknown_share) / unknown_share
            least = min(odds / (1 + odds), usual)
            last = np.flatnonzero(precision >= min(share, largest))[-1]
            self.thresholds[step] = max((at[last] + below[last]) / 2, least)
