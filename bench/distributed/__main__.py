"""One memory over several processes: ``python -m bench.distributed`` (``make bench-distributed``).

Parts that are done are not repeated. ``--only`` measures the parts that it names again and keeps the others;
``--fresh`` starts over. Writes ``bench/results/distributed.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from bench.distributed import restarts, same
from bench.distributed.plan import approximate, costs, routing, stragglers
from bench.distributed.report import report
from bench.machine import machine, write_results

PARTS = ("same", "approximate", "costs", "routing", "stragglers", "restarts")
"""Names of the parts."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.distributed", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/distributed"), help="runs and finished parts")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts to measure")
    parser.add_argument("--fresh", action="store_true", help="forget what is finished")
    parser.add_argument("--out", type=Path, help="folder of the results, for a trial")
    parser.add_argument("--small", action="store_true", help="a tenth of the cells, for a trial")
    parser.add_argument("--steps", type=int, default=1_000, help="steps of the training that is killed")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between checkpoints")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True, exist_ok=True)
    done = options.work / "parts.json"
    results: dict[str, Any] = json.loads(done.read_text()) if done.exists() else {}
    for part in options.only or [part for part in PARTS if part not in results]:
        about = machine()
        results[part] = {"machine": about, **_measure(part, options, results)}
        done.write_text(json.dumps(results))
    where = {} if options.out is None else {"folder": options.out}
    write_results("distributed", results, report(results), **where)
    print(report(results))


def _measure(part: str, options: argparse.Namespace, results: dict[str, Any]) -> dict[str, Any]:
    """One part; ``stragglers`` takes service times from the results of ``costs``."""
    if part == "restarts":
        return restarts.measure(
            options.work / part,
            steps=options.steps,
            kills=options.kills,
            ranks=options.ranks,
            cells=options.cells,
            every=options.every,
        )
    if part == "stragglers":
        if "costs" not in results:
            raise SystemExit(
                "stragglers needs the results of costs, which are not there: measure costs first"
            )
        largest = results["costs"]["shards"][-1]["hierarchy"]
        return stragglers.measure(largest["quantiles"], small=options.small)
    measure = {
        "same": same.measure,
        "approximate": approximate.measure,
        "costs": costs.measure,
        "routing": routing.measure,
    }
    return measure[part](small=options.small)


if __name__ == "__main__":
    main()
