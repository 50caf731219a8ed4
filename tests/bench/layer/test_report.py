"""The page says what was met, and what was not."""

from __future__ import annotations

from typing import Any

from bench.layer.report import markdown
from bench.layer.systems import SYSTEMS, System

MACHINE = {
    "cpu": "a processor",
    "cores": 2,
    "memory_gib": 23.5,
    "accelerator": None,
    "hmn": "0.1.0",
    "torch": "2.13.0",
    "python": "3.11",
    "date": "2026-12-01",
}


def one(spread: float, trained: float, recall: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"peak_mib": 100.0, "first_seconds": 1.5, "first_was_loaded": False}
    found["recall"] = dict.fromkeys(("1", "spread", "trained"), recall)
    for state, step in (("spread", spread), ("trained", trained)):
        parts = {"forward": step / 2, "backward": step / 4, "optimiser": step / 4}
        found[state] = {"step": step, **parts, "cells_read": 1_234}
    return found


def test_steps_are_judged_against_the_fastest_product_keys_in_the_worse_state() -> None:
    own = {"hmn": one(0.3, 0.1, 0.95), "dense": one(0.4, 0.4, None)}
    own |= {"sparse": one(0.5, 0.2, None), "rows": one(0.45, 0.4, None)}
    found = {"threads": 1, "rounds": 3, "steps": 5, "machine": MACHINE}
    text = markdown({"steps": {**found, "cells": {"262144": own, "1048576": own}}})
    said = "0.75 of its time while reads are spread and 0.50 after training"
    assert f"at 262,144 cells {said} (target 1, **met**)" in text
    assert f"at 1,048,576 cells {said} (target 0.5, **missed**)" in text
    assert "recall at least 0.950 (target 0.9, **met**)" in text
    assert all(label in text for label in SYSTEMS.values())


def test_runs_of_several_seeds_are_one_row() -> None:
    use = {"share": 0.5, "divergence": 1.0}
    runs: list[dict[str, Any]] = []
    for seed in (0, 1):
        figures = {"test": 2.0 + seed, "valid": {"10": 3.0 - seed}, "recall": {"1": 0.95 - seed / 100}}
        runs.append({"name": "hmn", "seed": seed, "parameters": 2_000_000, "use": use, **figures})
    dense = {"name": "dense", "seed": 0, "test": 2.5, "valid": {"10": 2.6}, "recall": {}}
    dense["parameters"] = 1_000_000
    poems = {"train": 10, "valid": 1, "test": 1}
    text = markdown({"language": {"corpus": {"poems": poems}, "machine": MACHINE, "runs": [*runs, dense]}})
    assert "| hmn | 2.00 M | 2 | 2.5000 ± 0.7071 | 2.5000 | 0.50 | 1.00 | 0.940 |" in text
    assert "| dense | 1.00 M | 1 | 2.5000 | 2.6000 | – | – | – |" in text


def test_every_system_takes_steps() -> None:
    for name in SYSTEMS:
        system = System(name, 1_024, threads=1)
        assert all(second > 0 for step in system.steps(2) for second in step)
        system.learn(1e-3)
        assert system.peak() > 0 and 0 < system.cells_read() <= 1_024
        found = system.recall()
        assert (found is not None and found > 0.85) == (name == "hmn")
