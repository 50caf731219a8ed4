"""The paper's own figures: Chandar et al. 2016, arXiv 1605.07427."""

from __future__ import annotations

from typing import NamedTuple

CELLS = 108_442
"""Facts of the paper's memory."""
TRAIN = 75_910
"""Training questions of the paper."""


class Published(NamedTuple):
    """What the paper reports of a row.

    Attributes:
        accuracy: accuracy of facts on the test questions, in per cent.
        softmax_size: mean number of cells that the training softmax normalises over; None if not reported.
        recalled: whether the figure is recalled rather than read: it is shown but decides nothing.
    """

    accuracy: float
    softmax_size: int | None = None
    recalled: bool = False


PUBLISHED = {
    "full softmax": Published(59.5, 108_442),
    "exact 10-MIPS": Published(62.2, 1_290),
    "exact 50-MIPS": Published(61.2, 6_180),
    "exact 100-MIPS": Published(60.6, 11_928),
    "exact 1000-MIPS": Published(59.6, 70_941),
    "clustering": Published(51.5, 20_006),
    "PCA-Tree": Published(32.4, 21_108),
    "WTA-Hash": Published(40.2, 20_008),
    "Top-K with few clusters": Published(50.2, recalled=True),
    "Top-K with many clusters": Published(51.5, recalled=True),
    "Sample-K with few clusters": Published(52.5, recalled=True),
    "Sample-K with many clusters": Published(52.8, recalled=True),
    "Top-K + Sample-K with few clusters": Published(52.8, recalled=True),
    "Top-K + Sample-K with many clusters": Published(53.1),
    "Top-K + Rand-block with few clusters": Published(51.8, recalled=True),
    "Top-K + Rand-block with many clusters": Published(52.3, recalled=True),
    "all three with few clusters": Published(52.5, recalled=True),
    "all three with many clusters": Published(52.7, recalled=True),
}
"""Figures by the names of ``hmn.paper.grid.ROWS``."""
