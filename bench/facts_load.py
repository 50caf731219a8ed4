"""Time and memory that ``FactTable.read`` takes to load generated facts with Freebase-like ids.

Run ``python -m bench.facts_load --facts 10000000``; it writes ``bench/results/facts_load.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import machine, write_results
from hmn.facts.table import FactTable

FACTS_PER_SUBJECT = 5
"""Facts per subject, each with another relation."""
RELATIONS = 500
"""Number of distinct relations."""
BLOCK = 100_000
"""Facts written at a time."""
LIMIT_SECONDS = 180
"""Upper limit of seconds for ten million facts."""
LIMIT_GIB = 6
"""Upper limit of peak memory, in GiB, for ten million facts."""


def generate(path: Path, facts: int, seed: int = 0) -> None:
    """Write distinct facts in random order: five relations per subject, objects drawn from the subjects."""
    rng = np.random.default_rng(seed)
    subjects = max(1, facts // FACTS_PER_SUBJECT)
    order = rng.permutation(facts)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, facts, BLOCK):
            subject, turn = order[start : start + BLOCK] % subjects, order[start : start + BLOCK] // subjects
            relation = (subject * 31 + turn) % RELATIONS
            object_ = rng.integers(0, subjects, len(subject))
            file.writelines(
                f"www.freebase.com/m/0{s:07x}\twww.freebase.com/domain_{r % 20}/type_{r}/property_{r}"
                f"\twww.freebase.com/m/0{o:07x}\n"
                for s, r, o in zip(subject.tolist(), relation.tolist(), object_.tolist(), strict=True)
            )


def load(path: Path) -> dict[str, Any]:
    """Load the facts in this process; returns sizes, seconds and the peak of resident memory in GiB."""
    start, start_cpu = time.perf_counter(), time.process_time()
    facts = FactTable.read(path)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return {
        "facts": len(facts),
        "entities": facts.num_entities,
        "relations": len(facts.relations),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_rss_gib": round(int(peak.split()[1]) / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=10_000_000, help="number of facts to generate")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load(arguments.load)))
        return
    result = machine()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "facts.tsv"
        generate(path, arguments.facts)
        result["file_mib"] = path.stat().st_size >> 20
        # a process of its own, so that the memory for generating the facts is not counted
        command = [sys.executable, "-m", "bench.facts_load", "--load", str(path)]
        result |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rows = "\n".join(f"| {name} | {value} |" for name, value in result.items())
    text = (
        f"# Loading facts\n\n`python -m bench.facts_load --facts {arguments.facts}`; "
        f"at most {LIMIT_SECONDS} s and {LIMIT_GIB} GiB are allowed for 10,000,000.\n\n"
        f"| | |\n|---|---|\n{rows}\n"
    )
    write_results("facts_load", result, text)
    print(json.dumps(result))
    if result["facts"] != arguments.facts:
        raise SystemExit(f"{result['facts']} facts were loaded, expected {arguments.facts}")


if __name__ == "__main__":
    main()
