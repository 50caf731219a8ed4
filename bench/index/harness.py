"""Tunes every system for its best at the target recall, on one half of the queries."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.index.cache import Kept, slug, version_of
from bench.index.data import DataSet, K
from bench.index.score import recalls
from bench.index.systems import ROWS
from bench.index.systems.base import Ids, Setting
from bench.index.worker import Child

BATCHES = (256, 1)
STEPS = (0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.5, 2.5, 5)  # of a curve, times the effort that reaches the target
LITTLE = 0.002  # recall gained by twice the effort, below which more effort is no use


@dataclass(frozen=True)
class Options:
    """How the benchmark is run.

    Attributes:
        threads: of every system.
        target: recall at 10 to reach.
        tuning: queries that settings are tried on.
        seconds: that a point of a curve is timed.
        rounds: in which all systems take turns.
        round_seconds: that a system is timed in a round.
        build_rounds: times that structures are built in turn.
        patience: seconds after which a slow system's recall is judged by the queries answered until then.
        pause: seconds before each turn, in which the threads of the one before stop waiting for work.
    """

    threads: int = 2
    target: float = 0.95
    tuning: int = 2048
    seconds: float = 0.5
    rounds: int = 7
    round_seconds: float = 2.0
    build_rounds: int = 7
    pause: float = 0.3
    patience: float = 10.0


@dataclass
class Point:
    """A setting, what it finds, and how fast: queries a second by size of batch."""

    setting: Setting
    recall: float
    reads: float | None = None
    speed: dict[str, float] = field(default_factory=dict)


class Runs(Protocol):
    """What calls the methods of a ``Bench``, here or in another process."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method."""
        ...


class Tuner:
    """Settings of one built system and what they reach.

    Args:
        bench: the system.
        data: what it searches.
        options: how.
        part: of the queries.
    """

    def __init__(self, bench: Runs, data: DataSet, options: Options, part: str = "tune") -> None:
        self.bench, self.options, self.part = bench, options, part
        self.keys, self.queries, self.best = data.keys, data.queries(part), data.best(part)
        self.effort: str | None
        self.range: tuple[int, int]
        self.others: list[Setting]
        self.effort, self.range, self.others = bench.call("ranges")
        self._recall: dict[str, float] = {}

    def recall(self, setting: Setting) -> float:
        """Mean recall at 10 of a setting, computed from the ids that it answers with."""
        known = slug(setting)
        if known not in self._recall:
            count = min(self.options.tuning, len(self.queries))
            patience = self.options.patience
            cells = self.bench.call("answers", setting, self.part, count, K, BATCHES[0], patience)
            self._recall[known] = self._mean_recall(cells, slice(len(cells)))
        return self._recall[known]

    def point(self, setting: Setting, seconds: float, batches: Sequence[int] = BATCHES) -> Point:
        """Recall, reads and speed of a setting."""
        found = Point(setting, self.recall(setting))
        found.reads = self.bench.call("reads", setting, self.part, min(256, len(self.queries)), K)
        for batch in batches:
            asked, spent, _, _ = self.bench.call("run", setting, self.part, K, batch, seconds)
            found.speed[str(batch)] = asked / spent
        return found

    def timed(self, setting: Setting, batch: int, seconds: float) -> tuple[float, float]:
        """Queries a second, and mean recall of the very answers that were timed."""
        asked, spent, which, cells = self.bench.call("run", setting, self.part, K, batch, seconds)
        return asked / spent, self._mean_recall(cells, which)

    def reach(self) -> list[Setting]:
        """For each combination of the other settings, the least effort that reaches the target, if any."""
        if self.effort is None:
            return [other for other in self.others if self.recall(other) >= self.options.target]
        reached: list[Setting] = []
        guess = self.range[0]
        for other in self.others:

            def recall(effort: int, other: Setting = other) -> float:
                return self.recall({**other, str(self.effort): effort})

            least = least_effort(recall, *self.range, self.options.target, guess)
            if least is not None:
                reached.append({**other, self.effort: least})
                guess = least
        return reached

    def ladder(self, setting: Setting | None) -> list[Setting]:
        """Settings of a curve through a setting; from the least effort to the most without one."""
        if self.effort is None:
            return self.others
        low, high = self.range
        if setting is None:
            efforts = [round(low * (high / low) ** (step / 7)) for step in range(8)]
            return [{**self.others[-1], self.effort: effort} for effort in dict.fromkeys(efforts)]
        efforts = [min(high, max(low, round(setting[self.effort] * step))) for step in STEPS]
        points = [{**setting, self.effort: effort} for effort in dict.fromkeys(efforts)]
        # what scores few cells again stops short of the highest recalls, so the other end is tried as well
        more = dict.fromkeys(effort for effort in efforts if effort > setting[self.effort])
        points += [{**self.others[-1], self.effort: effort} for effort in more]
        return [point for number, point in enumerate(points) if point not in points[:number]]

    def stronger(self, setting: Setting) -> Setting | None:
        """The setting with a little more effort, None where there is no more."""
        if self.effort is None or setting[self.effort] >= self.range[1]:
            return None
        effort = setting[self.effort]
        return {**setting, self.effort: min(self.range[1], effort + max(1, effort // 50))}

    def _mean_recall(self, cells: Ids, which: Any) -> float:
        return float(recalls(self.keys, self.queries[which], cells, self.best[which]).mean())


def least_effort(
    recall: Callable[[int], float], low: int, high: int, target: float, guess: int
) -> int | None:
    """The least effort whose recall reaches the target, for a recall that grows with effort.

    Doubles from the guess until it is reached, then halves the distance. None if it never is: at the most
    effort, or where twice the effort twice gains next to nothing.
    """
    effort, below, idle, before = max(low, min(guess, high)), low - 1, 0, -1.0
    while (reached := recall(effort)) < target:
        idle = idle + 1 if reached - before < LITTLE else 0
        if effort == high or idle == 2:
            return None
        below, before, effort = effort, reached, min(high, 2 * effort)
    above, step = effort, 1
    while below < low and above > low:  # the guess was enough: look for one that is not
        lower = max(low, above - step)
        if recall(lower) >= target:
            above, step = lower, 2 * step
        else:
            below = lower
    while above - below > 1:
        middle = (above + below) // 2
        above, below = (middle, below) if recall(middle) >= target else (above, middle)
    return above


def sweep(row: str, build: Setting, data: DataSet, work: Path, options: Options) -> dict[str, Any]:
    """Build one system one way, tune it, and measure its curve; kept in ``work``, not done twice."""
    kept, name = Kept(work / "sweeps"), slug(row, *build.values())
    key = sweep_key(row, build, data, options)
    found: dict[str, Any] | None = kept.read(name, key)
    cache = cache_of(row, build, work)
    if found is not None and cache.is_dir():
        return found
    shutil.rmtree(cache, ignore_errors=True)
    child = Child("bench.index.worker:Bench", row, build, data.folder, options.threads)
    try:
        part = cache.with_name(cache.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        made = child.call("build", part)
        tuner = Tuner(child, data, options)
        reached = [tuner.point(setting, options.seconds) for setting in tuner.reach()]
        fastest = max(reached, key=lambda point: point.speed[str(BATCHES[0])], default=None)
        curve = tuner.ladder(None if fastest is None else fastest.setting)
        points = [tuner.point(setting, options.seconds) for setting in curve]
    finally:
        child.close()
    part.rename(cache)
    found = {
        "build": build,
        **made,
        "reached": [asdict(point) for point in reached],
        "curve": [asdict(point) for point in points],
    }
    kept.write(name, key, found)
    return found


def sweep_key(row: str, build: Setting, data: DataSet, options: Options) -> dict[str, Any]:
    """What a sweep depends on."""
    used = {name: getattr(options, name) for name in ("threads", "target", "tuning", "seconds", "patience")}
    return {"row": row, "build": build, "version": version_of(row), "data": data.about["checksum"], **used}


def cache_of(row: str, build: Setting, work: Path) -> Path:
    """Folder of a built structure."""
    return work / "built" / slug(row, *build.values())


def sweeps(
    row: str, data: DataSet, work: Path, options: Options, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Sweeps of every build of a row; builds of last resort only where none of the others gets there."""
    cells, features = data.about["cells"], data.about["features"]
    found: list[dict[str, Any]] = []
    for builds in (ROWS[row].builds(cells, features), ROWS[row].fallbacks(cells, features)):
        for build in builds:
            say(f"{row}, {build or 'nothing to set'}")
            found.append(sweep(row, build, data, work, options))
        if any(one["reached"] for one in found):
            break
    return found


def chosen(sweeps: list[dict[str, Any]], batch: int) -> tuple[Setting, Setting] | None:
    """Build and search settings of the fastest point that reaches the target at this size of batch."""
    points = [(point["speed"][str(batch)], one["build"], point) for one in sweeps for point in one["reached"]]
    if not points:
        return None
    _, build, point = max(points, key=lambda entry: entry[0])
    return build, point["setting"]
