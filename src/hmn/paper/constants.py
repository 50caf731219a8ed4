"""What the runs depend on beside their rows and presets: the modules' own constants."""

from __future__ import annotations

from typing import Any

from hmn.paper import adam, bm25, clock, keywords, measure, reading, sentences, sweep
from hmn.qa import metrics, targets


def constants() -> dict[str, Any]:
    """All of them by name, for the keys of runs."""
    return {
        "adam": adam.LONGEST,
        "bm25": [bm25.SATURATION, bm25.LENGTH_SHARE, bm25.FOUND],
        "clock": [clock.ROUNDS, clock.BLOCK],
        "keywords": [keywords.LONGEST, keywords.RARE, keywords.LEAST],
        "measure": [measure.K, metrics.TIE],
        "reading": [reading.TUNED_K, reading.ROUNDS, targets.MOST_ADDED],
        "sentences": [
            sentences.SCALE,
            sentences.LEARNING_RATE,
            sentences.WARMUP,
            sentences.MOST_PIECES,
            sentences.CELLS_A_LIST,
            sentences.PROBES,
        ],
        "sweep": list(sweep.SWEPT_PARTS),
    }
