"""The modules' own constants, on which runs depend as they do on rows and presets."""

from __future__ import annotations

from typing import Any

from hmn.paper.baselines import bm25
from hmn.paper.baselines import sentence_encoder as sentences
from hmn.paper.network import catch_up_adam as adam
from hmn.paper.network import keyword_filter as keywords
from hmn.paper.network import measure, search_budget, sweep
from hmn.paper.network import timing as clock
from hmn.qa import metrics
from hmn.qa.training import targets


def constants() -> dict[str, Any]:
    """All of them, for the keys of runs; the names here never change, or finished runs would be repeated."""
    return {
        "adam": adam.LONGEST,
        "bm25": [bm25.SATURATION, bm25.LENGTH_SHARE, bm25.FOUND],
        "clock": [clock.ROUNDS, clock.BLOCK],
        "keywords": [keywords.LONGEST, keywords.RARE, keywords.LEAST],
        "measure": [measure.K, metrics.TIE],
        "reading": [search_budget.TUNED_K, search_budget.ROUNDS, targets.MOST_ADDED],
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
