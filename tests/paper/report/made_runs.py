"""Made-up runs, as the results file has them, and what a report says of them."""

from __future__ import annotations

from typing import Any

from hmn.paper.grid import KEYWORDS, KMIPS, Row
from hmn.paper.preset import PRESETS
from hmn.paper.report.document import Block

FULL = PRESETS["full"]


def made_run(row: Row, number: int, seed: int = 0) -> dict[str, Any]:
    def tested(fact: float) -> dict[str, Any]:
        return {
            "questions": 900,
            "fact": fact,
            "pair": fact + 0.05,
            "reads": 500.0 + number,
            "recall": 0.75,
            "questions_a_second": 1234.0,
        }

    fact = 0.3 + 0.01 * number + 0.002 * seed
    searches = {"own": tested(fact), "exact": tested(fact + 0.1)}
    if row.strategy:
        searches["own"]["tuned"] = {"setting": "strategy", "value": "top-k:2"}
    elif row.reader == KMIPS and not row.exact:
        searches["own"]["tuned"] = {"setting": "num_probes", "value": 3}
    if row.also_tested_with:
        searches["other"] = tested(fact - 0.1)
    if row.strategy:
        searches["common"] = tested(fact + 0.02)
    if row.reader == KEYWORDS:
        searches["own"]["coverage"] = 0.876
    curve = [(1, fact / 2), (2, fact), (3, fact - 0.01)]
    return {
        "name": row.name,
        "table": row.table,
        "seed": seed,
        "device": "cpu",
        "date": "2026-01-01",
        "facts": 81_004,
        "cells": [81_004, 600],
        "questions": {"natural": 48_737, "artificial": 1234},
        "machine": {
            "processor": "Some <CPU>",
            "cores": 2,
            "accelerator": None,
            "torch": "2.13.0",
            "load_average": [1.5 + seed, 1.0, 1.0],
        },
        "softmax_size": 4321.4,
        "seconds_a_step": 0.1234,
        "seconds_an_epoch": 77.5,
        "build_seconds": 12.5,
        "epochs_to_best": 2,
        "stopped": "patience",
        "peak_mib": 1500.2,
        "accelerator_peak_mib": None,
        "curve": [
            {"epoch": epoch, "fact": 0.9 * value, "exact": {"fact": value}, "seconds": 80.0 * epoch}
            for epoch, value in curve
        ],
        "sweep": [
            {"structure": structure, "reads": reads, "fact": fact * (1 - 10 / reads)}
            for structure in ("clusters", "WTA-Hash")
            for reads in (800.0, 100.0)
            if row.swept
        ],
        "tested": {"valid": searches},
    }


def block_of(blocks: list[Block], heading: str) -> Block:
    return next(block for block in blocks if block.heading == heading)


def cell_of(block: Block, column: str, row: int = 0) -> str:
    return block.rows[row][list(block.head).index(column)]
