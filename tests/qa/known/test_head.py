"""The head that turns evidence into probabilities: what it learns, its calibration and its thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmn.qa.known.head import PRECISIONS, KnownHead


@pytest.fixture(scope="module")
def evidence() -> tuple[torch.Tensor, torch.Tensor]:
    """Evidence on known and on unknown questions, of which one figure of four says anything."""
    known, unknown = (torch.randn(600, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    known[:, 2] += 2.0
    return known * 3 + 5, unknown * 3 + 5


@pytest.fixture(scope="module")
def head(evidence: tuple[torch.Tensor, torch.Tensor]) -> KnownHead:
    torch.manual_seed(0)
    head = KnownHead(4)
    head.learn(*evidence, seed=0)
    return head


def test_known_questions_stand_out(head: KnownHead, evidence: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Nearly as well as by the figure that was shifted, which no judge can beat but by chance."""
    fresh = torch.randn(2000, 4, generator=torch.Generator().manual_seed(2)) * 3 + 5
    other = fresh.clone()
    fresh[:, 2] += 6.0
    with torch.no_grad():
        right = (head.logit(fresh).unsqueeze(1) > head.logit(other)).double().mean()
    best = (fresh[:, 2].unsqueeze(1) > other[:, 2]).double().mean()
    assert best - 0.02 < right <= best + 0.005
    assert len(evidence[0]) == 600


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_probabilities_sum_to_the_share_of_known_questions(
    head: KnownHead, evidence: tuple[torch.Tensor, torch.Tensor], share: float
) -> None:
    """Which is what a fit by maximum likelihood gives, whatever the numbers of questions are."""
    known, unknown = evidence[0], evidence[1][:200]
    head.calibrate(known, unknown, share)
    with torch.no_grad():
        mean = (1 - share) * head(known).mean() + share * head(unknown).mean()
    assert float(mean) == pytest.approx(1 - share, abs=0.01)


def test_calibration_agrees_with_newton_steps_in_float64(
    head: KnownHead, evidence: tuple[torch.Tensor, torch.Tensor]
) -> None:
    known, unknown = evidence
    head.calibrate(known, unknown, 0.2)
    with torch.no_grad():
        logit = torch.cat([head.logit(known), head.logit(unknown)]).double().numpy()
    target = np.repeat([601 / 602, 1 / 602], 600)
    weight = np.repeat([1.0, 0.25], 600)
    design, line = np.stack([logit, np.ones(1200)]), np.array([1.0, 0.0])
    for _ in range(30):
        probability = 1 / (1 + np.exp(-line @ design))
        curvature = (design * weight * probability * (1 - probability)) @ design.T
        line = line + np.linalg.solve(curvature, design @ (weight * (target - probability)))
    assert [float(head.slope), float(head.shift)] == pytest.approx(line, abs=1e-3)


def test_questions_that_lie_apart_have_finite_probabilities(head: KnownHead) -> None:
    apart = torch.full((5, 4), 20.0), torch.full((5, 4), -20.0)
    head.calibrate(*apart, 0.05)
    with torch.no_grad():
        known, unknown = head(apart[0]), head(apart[1])
    assert 0.7 < float(known[0]) < 1 and 0 < float(unknown[0]) < 0.9


def test_thresholds_are_the_smallest_of_their_precisions(
    head: KnownHead, evidence: tuple[torch.Tensor, torch.Tensor]
) -> None:
    known, unknown = evidence
    head.calibrate(known, unknown, 0.5)
    right = torch.from_numpy(np.random.default_rng(0).random(600) < 0.9)
    head.set_thresholds(known, right, unknown, 0.5)
    with torch.no_grad():
        of_known, of_unknown = head(known).double(), head(unknown).double()

    def precision(threshold: float) -> float:
        answered = int((of_known >= threshold).sum() + (of_unknown >= threshold).sum())
        return float(right[of_known >= threshold].sum()) / answered if answered else 1.0

    candidates = torch.cat([of_known, of_unknown]).unique()
    few = float(torch.cat([of_known, of_unknown]).sort(descending=True).values[59])  # a tenth of the known
    reached = {float(threshold): precision(float(threshold)) for threshold in candidates}
    largest = max(share for threshold, share in reached.items() if threshold <= few)
    for step in (50, 80, 85, 99):
        # a precision that no threshold gives: the largest hundredth there is, if a tenth is answered
        wanted = min(step / PRECISIONS, np.floor(100 * largest) / 100)
        smallest = min(threshold for threshold, share in reached.items() if share >= wanted)
        # half of all are known here, so that probabilities are those of the precision
        smallest = max(smallest, min(step / PRECISIONS, float(of_known.quantile(0.02))))
        assert precision(head.threshold(step / PRECISIONS)) == precision(smallest)
    assert head.threshold(0.501) == float(head.thresholds[51])


def test_what_counts_as_known_is_as_likely_as_the_precision(head: KnownHead) -> None:
    """Also where held-out questions leave a wide gap, and one of twenty is unknown in general."""
    known, unknown = torch.full((5, 4), 20.0), torch.full((5, 4), -20.0)
    head.calibrate(known, unknown, 0.05)
    head.set_thresholds(known, torch.ones(5), unknown, 0.05)
    with torch.no_grad():
        # as likely as 0.95 where half are unknown: odds of 19 to 1, and 19 times that of one in twenty
        assert head.threshold(0.95) == pytest.approx(min(361 / 362, float(head(known)[0])))
    assert head.threshold(0.0) < 0.5


def test_what_was_the_same_in_all_questions_decides_nothing_later() -> None:
    rng = np.random.default_rng(0)
    known, unknown = (torch.from_numpy(rng.normal(mean, 1, (500, 3))).float() for mean in (2, -2))
    known[:, 2] = unknown[:, 2] = 0.25
    head = KnownHead(3)
    head.learn(known, unknown, 0)
    later = known[:50].clone()
    later[:, 2] = 0.35
    with torch.no_grad():
        assert (head(later) > 0.5).float().mean() > 0.9


def test_answers_that_namesakes_share_are_known_all_the_same(head: KnownHead) -> None:
    """One of eight answers is right by half, so no threshold gives 0.95; nearly all count as known then."""
    draw = torch.Generator().manual_seed(3)
    known = torch.randn(4000, 4, generator=draw) + torch.tensor([5.0, 5, 30, 5])
    unknown = torch.randn(4000, 4, generator=draw) + torch.tensor([5.0, 5, -20, 5])
    head.calibrate(known, unknown, 0.05)
    right = torch.ones(4000)
    right[::8] = 0.5
    head.set_thresholds(known, right, unknown, 0.05)
    with torch.no_grad():
        assert (head(known) >= head.threshold(0.95)).float().mean() >= 0.85
        assert (head(unknown) >= head.threshold(0.95)).float().mean() == 0.0
