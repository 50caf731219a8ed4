"""Tunes every system to be fastest at the target recall, on one half of the queries."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bench.index.cache import Kept, slug, version_of
from bench.index.data import DataSet
from bench.index.load.quiet import LIMIT, LoadedError, Quiet
from bench.index.score import recalls
from bench.index.systems import ROWS
from bench.index.systems.base import Ids, Setting
from bench.index.worker import Child, ChildError

BATCHES = (256, 1)
"""Batch sizes."""
STEPS = (0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.5, 2.5, 5)
"""Efforts of a curve, as multiples of the effort that reaches the target."""
LITTLE = 0.002
"""Gain of recall from doubling the effort below which the largest effort is tried next."""


@dataclass(frozen=True)
class Options:
    """How the benchmark is run.

    Attributes:
        threads: threads per system.
        target: recall to reach, of as many best cells as a query has results.
        tuning: queries that settings are tried on.
        seconds: seconds for which a point of a curve is timed.
        rounds: rounds in which all systems take turns.
        round_seconds: seconds for which a system is timed per round.
        build_rounds: times that structures are built in turn.
        limit: processors that other processes may use during a timing; None: not checked.
        wait: seconds to wait for a quiet machine, in all.
        patience: seconds after which a slow system's recall is judged by the queries answered by then.
        pause: seconds before each turn, in which the threads of the previous system stop waiting for work.
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
    limit: float | None = LIMIT
    wait: float = 3600.0


@dataclass
class Point:
    """A setting with its recall, its reads and its speed: queries per second by batch size."""

    setting: Setting
    recall: float
    reads: float | None = None
    speed: dict[str, float] = field(default_factory=dict)


class Runs(Protocol):
    """Calls the methods of a ``Bench``, in this process or another."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method."""
        ...


class Tuner:
    """Settings of one built system and the recall that they reach.

    Args:
        bench: the system.
        data: the data set that it searches.
        options: options of the benchmark.
        quiet: decides whether a timing counts.
        part: part of the queries: ``tune`` or ``measure``.
    """

    def __init__(
        self, bench: Runs, data: DataSet, options: Options, quiet: Quiet, part: str = "tune"
    ) -> None:
        self.bench, self.options, self.quiet, self.part = bench, options, quiet, part
        self.keys, self.queries, self.best = data.keys, data.queries(part), data.best(part)
        self.effort: str | None
        self.range: tuple[int, int]
        self.others: list[Setting]
        self.k = data.k
        self.effort, self.range, self.others = bench.call("ranges", self.k)
        self._recall: dict[str, float] = {}

    def recall(self, setting: Setting) -> float:
        """Mean recall of a setting, computed from the ids in its answers."""
        known = slug(setting)
        if known not in self._recall:
            count = min(self.options.tuning, len(self.queries))
            patience = self.options.patience
            cells = self.bench.call("answers", setting, self.part, count, self.k, BATCHES[0], patience)
            self._recall[known] = self._mean_recall(cells, slice(len(cells)))
        return self._recall[known]

    def point(self, setting: Setting, seconds: float, batches: Sequence[int] = BATCHES) -> Point:
        """Recall, reads and speed of a setting."""
        point = Point(setting, self.recall(setting))
        point.reads = self.bench.call("reads", setting, self.part, min(256, len(self.queries)), self.k)
        for batch in batches:
            (asked, spent, _, _), _ = self._run(setting, batch, seconds)
            point.speed[str(batch)] = asked / spent
        return point

    def timed(self, setting: Setting, batch: int, seconds: float) -> tuple[float, float, float | None]:
        """Queries per second, mean recall of exactly the answers that were timed, and the load of others.

        Raises:
            LoadedError: others used the machine in every timing.
        """
        (asked, spent, which, cells), others = self._run(setting, batch, seconds)
        return asked / spent, self._mean_recall(cells, which), others

    def _run(self, setting: Setting, batch: int, seconds: float) -> tuple[Any, float | None]:
        run = partial(self.bench.call, "run", setting, self.part, self.k, batch, seconds)
        return self.quiet.timed(f"batch {batch}, {setting}", run)

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
        # settings that score few cells in full stop short of the highest recalls: try the other end as well
        more = dict.fromkeys(effort for effort in efforts if effort > setting[self.effort])
        points += [{**self.others[-1], self.effort: effort} for effort in more]
        return [point for number, point in enumerate(points) if point not in points[:number]]

    def stronger(self, setting: Setting) -> Setting | None:
        """The setting with a little more effort; None at the upper limit."""
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

    Doubles from the guess until the target is reached, then bisects. None if it is not reached at the upper
    limit, which is tried as soon as doubling the effort twice in a row gains less than ``LITTLE``.
    """
    effort, below, idle, before = max(low, min(guess, high)), low - 1, 0, -1.0
    while (reached := recall(effort)) < target:
        idle = idle + 1 if reached - before < LITTLE else 0
        # the smallest efforts may all find the same, and larger ones more
        if effort == high or (idle == 2 and recall(high) < target):
            return None
        below, before, effort = effort, reached, min(high, 2 * effort)
    above, step = effort, 1
    while below < low and above > low:  # the guess was enough: search downwards for one that is not
        lower = max(low, above - step)
        if recall(lower) >= target:
            above, step = lower, 2 * step
        else:
            below = lower
    while above - below > 1:
        middle = (above + below) // 2
        above, below = (middle, below) if recall(middle) >= target else (above, middle)
    return above


def sweep(
    row: str, build: Setting, data: DataSet, work: Path, options: Options, quiet: Quiet
) -> dict[str, Any]:
    """Build one system with one setting, tune it and measure its curve; kept in ``work``.

    Raises:
        LoadedError: others used the machine whenever it was timed; nothing is kept then but the build.
    """
    kept, name = Kept(work / "sweeps"), slug(row, *build.values(), data.k)
    key = sweep_key(row, build, data, options)
    figures: dict[str, Any] | None = kept.read(name, key)
    if figures is not None and cache_of(row, build, work).is_dir():
        return figures
    made = _built(row, build, data, work, options, quiet)
    child = Child("bench.index.worker:Bench", row, build, data.folder, options.threads)
    try:
        child.call("load", cache_of(row, build, work))
        tuner = Tuner(child, data, options, quiet)
        reached = [tuner.point(setting, options.seconds) for setting in tuner.reach()]
        fastest = max(reached, key=lambda point: point.speed[str(BATCHES[0])], default=None)
        curve = tuner.ladder(None if fastest is None else fastest.setting)
        points = [tuner.point(setting, options.seconds) for setting in curve]
    finally:
        child.close()
    figures = {
        "build": build,
        **made,
        "reached": [asdict(point) for point in reached],
        "curve": [asdict(point) for point in points],
    }
    kept.write(name, key, figures)
    return figures


def _built(
    row: str, build: Setting, data: DataSet, work: Path, options: Options, quiet: Quiet
) -> dict[str, Any]:
    """Figures of a build, after which the structure is in its folder; one build serves every k.

    A build beside other processes is not repeated: ``load`` says in words what others used then.
    """
    kept, name, cache = Kept(work / "builds"), slug(row, *build.values()), cache_of(row, build, work)
    key = build_key(row, build, data, options)
    made: dict[str, Any] | None = kept.read(name, key)
    if made is not None and cache.is_dir():
        return made
    part = cache.with_name(cache.name + ".part")
    for folder in (cache, part):
        shutil.rmtree(folder, ignore_errors=True)
    child = Child("bench.index.worker:Bench", row, build, data.folder, options.threads)
    try:
        figures, load = quiet.seen(partial(child.call, "build", part))
    finally:
        child.close()
    part.rename(cache)
    made = {**figures, "load": None if load is None else str(load)}
    kept.write(name, key, made)
    return made


def build_key(row: str, build: Setting, data: DataSet, options: Options) -> dict[str, Any]:
    """Everything that a build depends on."""
    about = {"version": version_of(row), "data": data.about["checksum"], "threads": options.threads}
    return {"row": row, "build": build, **about}


def sweep_key(row: str, build: Setting, data: DataSet, options: Options) -> dict[str, Any]:
    """Everything that a sweep depends on."""
    used = {name: getattr(options, name) for name in ("target", "tuning", "seconds", "patience")}
    return {**build_key(row, build, data, options), "k": data.k, **used}


def cache_of(row: str, build: Setting, work: Path) -> Path:
    """Folder in which a built structure is kept."""
    return work / "built" / slug(row, *build.values())


def sweeps(
    row: str,
    data: DataSet,
    work: Path,
    options: Options,
    log: Callable[[str], None],
    quiet: Quiet,
    only: Sequence[Setting] | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Sweeps of every build of a row, and a note on each build that failed or was refused.

    Fallback builds are tried only if no other reaches the target. Builds that are given as ``only`` are tried
    in place of all.

    Raises:
        PackageMissingError: the row's package is not installed.
    """
    cells, features = data.about["cells"], data.about["features"]
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    tried = (ROWS[row].builds(cells, features), ROWS[row].fallbacks(cells, features))
    for builds in tried if only is None else (only,):
        for build in builds:
            log(f"{row}, {build or 'nothing to set'}")
            try:
                found.append(sweep(row, build, data, work, options, quiet))
            except (ChildError, LoadedError) as error:
                notes.append(f"{row}, {build or 'nothing to set'}: {str(error).strip().splitlines()[-1]}")
                log(notes[-1])
        if any(result["reached"] for result in found):
            break
    return found, notes


def chosen(sweeps: list[dict[str, Any]], batch: int) -> tuple[Setting, Setting] | None:
    """Build and search settings of the fastest point that reaches the target at this batch size."""
    points = [
        (point["speed"][str(batch)], result["build"], point)
        for result in sweeps
        for point in result["reached"]
    ]
    if not points:
        return None
    _, build, point = max(points, key=lambda entry: entry[0])
    return build, point["setting"]
