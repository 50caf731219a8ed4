"""The modules' own constants, on which runs depend as they do on rows and presets."""

from __future__ import annotations

from typing import Any

from hmn.paper.baselines import bm25, sentence_encoder, sentence_run, sentence_training
from hmn.paper.network import catch_up_adam, measure, sweep, timing
from hmn.paper.network.attention import keyword_filter, search_budget
from hmn.qa import metrics
from hmn.qa.training import targets


def constants() -> dict[str, Any]:
    """All of them, for the keys of runs; the names here never change, or finished runs would be repeated."""
    return {
        "adam": catch_up_adam.LONGEST,
        "bm25": [bm25.SATURATION, bm25.LENGTH_SHARE, bm25.FOUND],
        "clock": [timing.ROUNDS, timing.BLOCK],
        "keywords": [keyword_filter.LONGEST, keyword_filter.RARE, keyword_filter.LEAST],
        "measure": [measure.K, metrics.TIE],
        "reading": [search_budget.TUNED_K, search_budget.ROUNDS, targets.MOST_ADDED],
        "sentences": [
            sentence_training.SCALE,
            sentence_training.LEARNING_RATE,
            sentence_training.WARMUP,
            sentence_encoder.MOST_PIECES,
            sentence_run.CELLS_PER_LIST,
            sentence_run.PROBES,
        ],
        "sweep": list(sweep.SWEPT_PARTS),
    }
