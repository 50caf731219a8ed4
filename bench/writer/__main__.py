"""Run ``python -m bench.writer`` (``make bench-writer``).

Writes ``writer.json`` and ``writer.md`` to bench/results. ``--only`` measures the parts it names and keeps
the other figures of ``writer.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.machine import RESULTS, machine, write_results
from bench.writer import crowd, overwriting, speed, training
from bench.writer.report import markdown
from bench.writer.tasks import TASKS

PARTS = ("speed", "overwriting", "tasks")
"""Parts of the benchmark, in the order in which they run."""


def _task(name: str, log: Callable[[str], None], cells: int) -> dict[str, Any]:
    controller, figures = training.train(name, log)
    if name == "recall":
        asked = tuple(count for count in crowd.CELLS if count <= cells)
        figures["crowd"] = crowd.measure(controller, log, asked)
    return figures


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.writer", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="tasks to train")
    parser.add_argument(
        "--cells", type=int, default=crowd.CELLS[-1], help="most cells that recall is asked in"
    )
    parser.add_argument("--pairs", type=int, default=overwriting.MOST_PAIRS, help="most live pairs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    options = parser.parse_args(arguments)
    file = options.out / "writer.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    for part in options.only:
        about = machine()
        figures: dict[str, Any]
        if part == "speed":
            figures = speed.measure(log)
        elif part == "overwriting":
            figures = overwriting.measure(log, (min(overwriting.LEAST_PAIRS, options.pairs), options.pairs))
        else:
            kept = results.get("tasks", {}).get("tasks", {})
            made = {name: _task(name, log, options.cells) for name in options.tasks}
            figures = {"tasks": kept | made}
        results[part] = {**figures, "machine": about}
        write_results("writer", results, markdown(results), options.out)


if __name__ == "__main__":
    main()
