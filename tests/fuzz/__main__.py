"""Feeds hmn random operations and damaged files for as long as it is given.

Run ``make fuzz MINUTES=10``, or ``python -m tests.fuzz --minutes 10 --target states``. Each batch of cases
runs in a process of its own, so that crashes and hangs are reported too. The report names the seed of a batch
that failed; ``python -m tests.fuzz --target states --seed 17 --batches 1`` repeats it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import time
from collections import Counter

from tests.fuzz.batches import BATCHES

MOST_SECONDS = 900
"""Upper limit of seconds per batch: beyond it the batch is said to hang."""
SHOWN_LINES = 40
"""Lines of output shown of a batch that failed."""


def main(arguments: list[str] | None = None) -> int:
    """Run batches in turns until the time is over; returns the number of those that failed."""
    options = parsed(arguments)
    if options.inside:
        BATCHES[options.inside](options.seed)
        return 0
    names = options.target or list(BATCHES)
    first = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    ends = time.monotonic() + 60 * options.minutes
    done, failed = Counter[str](), Counter[str]()
    for number in itertools.count():
        name, seed = names[number % len(names)], first + number // len(names)
        over = time.monotonic() >= ends if options.batches is None else number >= options.batches * len(names)
        if over:
            break
        failure = failure_of(name, seed)
        done[name] += 1
        if failure:
            failed[name] += 1
            print(f"{name}, seed {seed}: {failure}", flush=True)
    for name in names:
        print(f"{name}: {done[name]} batches, {failed[name]} failed")
    return min(1, failed.total())


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Try hmn with random input.")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes to spend (default: 10)")
    parser.add_argument("--batches", type=int, help="batches per target, instead of minutes")
    parser.add_argument("--target", action="append", choices=list(BATCHES), help="what to try; default: all")
    parser.add_argument("--seed", type=int, help="seed of the first batch (default: drawn)")
    parser.add_argument("--inside", choices=list(BATCHES), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def failure_of(name: str, seed: int) -> str:
    """What went wrong in a batch; empty if nothing did."""
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "tests.fuzz",
        "--inside",
        name,
        "--seed",
        str(seed),
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it took more than {MOST_SECONDS} seconds"
    if ended.returncode == 0:
        return ""
    lines = "\n".join((ended.stdout + ended.stderr).splitlines()[-SHOWN_LINES:])
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else "an error"
    return f"it ended with {how}\n{lines}"


if __name__ == "__main__":
    sys.exit(main())
