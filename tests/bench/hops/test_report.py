"""The page of results holds what was measured, and leaves out what was not."""

from __future__ import annotations

from typing import Any

from bench.hops.report import report
from bench.machine import machine

ROW = {"hits_at_1": 0.5, "mrr": 0.6, "reads": 30.0, "hop_reads": [10.0, 20.0, 0.0], "questions_a_second": 7.0}
TRAINING = {"command": "hmn train", "processor_seconds": 120.0, "training_peak_rss_gib": 1.5}


def results(**parts: Any) -> dict[str, Any]:
    figures = {
        f"exact, {hops} hops, topics {topics}": ROW for hops in (1, 2, 3) for topics in ("found", "given")
    }
    metaqa = {"metaqa training": TRAINING, "metaqa figures": figures}
    return {"machine": machine(), **metaqa, **{name.replace("_", " "): part for name, part in parts.items()}}


def test_figures_of_metaqa() -> None:
    page = report(results())
    assert "| topic found, exact | 0.5000 | 0.5000 | 0.5000 |" in page
    assert "trained in 2 minutes of one processor" in page
    assert "| exact | 10 + 20 + 0 | 10 + 20 + 0 | 10 + 20 + 0 |" in page
    assert "Where the remaining errors lie" not in page
    assert "Chains" not in page


def test_parts_that_were_measured_too() -> None:
    row = {"points": 1.25, "examples": ["who: nobody; right: somebody"]}
    ceiling = {"1": {"relations given": 0.9, "reachable": 0.95}}
    chains = {
        f"{steps} steps, topics {topics}": {"hits_at_1": 0.25 * steps}
        for steps in (1, 2, 3, 4)
        for topics in ("found", "given")
    }
    page = report(
        results(
            metaqa_errors={"1": {"another topic": row}},
            metaqa_ceiling=ceiling,
            metaqa_milliseconds={"exact": 3.5},
            metaqa_without_topics={"hits_at_1": [0.1, 0.2, 0.3]},
            **{"chains, stop by reading": {"processor_seconds": 60.0, **chains}},
        )
    )
    assert "- 1.25: another topic\n    - who: nobody; right: somebody" in page
    assert "| a reader that is given topic and relations | 0.9000 |" in page
    assert "exact 3.5 ms" in page
    assert "not given in training, exact | 0.1000 | 0.2000 | 0.3000 |" in page
    assert "| stop by reading, topic given | 0.250 | 0.500 | 0.750 | 1.000 |" in page
    assert "stop by words" not in page
