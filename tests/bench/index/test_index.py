"""The benchmark of search structures: how it judges and tunes, and one whole run on small data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.index.cache import Kept, slug
from bench.index.harness import Options, Tuner, chosen, least_effort
from bench.index.plots import frontier
from bench.index.run import main
from bench.index.score import best_scores, recalls
from bench.index.systems import ROWS
from bench.index.systems.base import Floats, Ids, PackageMissingError, Setting, lengthened
from bench.index.worker import Bench, Child, ChildError
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.index import attention, data, report
from hmn.errors import MissingPackageError

PARENT = """
from bench.index.worker import Child

if __name__ == "__main__":
    child = Child("threading:Event")
    print(child._process.pid, flush=True)
    child.call("wait", 600)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> data.DataSet:
    return data.prepare("small", tmp_path_factory.mktemp("data"), Path("none"), Path("none"))


class Here:
    """Calls a bench in this process."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.bench, method)(*arguments)


class Liar:
    """Knows the right answers and gives ``honesty`` of them; claims to read nothing."""

    effort = "honesty"

    def __init__(self, best: Ids, lie: str) -> None:
        self.best, self.lie, self.honesty = best, lie, 0
        self.asked = 0

    def efforts(self) -> tuple[int, int]:
        return 1, 10

    def others(self) -> list[Setting]:
        return [{}]

    def set(self, setting: Setting) -> None:
        self.honesty = setting["honesty"]
        self.asked = 0

    def search(self, queries: Floats, k: int) -> Ids:  # noqa: ARG002
        found = self.best[self.asked : self.asked + len(queries)].copy()
        self.asked += len(queries)
        false = {"repeats": found[:, :1], "nowhere": np.full_like(found[:, :1], 10**9), "none": -1}[self.lie]
        found[:, self.honesty :] = false
        return found

    def reads(self, queries: Floats, k: int) -> float | None:  # noqa: ARG002
        return 0.0


def right_answers(small: data.DataSet, part: str) -> Ids:
    order: Ids = np.argsort(-(small.queries(part).astype(np.float64) @ small.keys.T), axis=1)
    return order[:, : data.K]


def tuner(small: data.DataSet, system: Any, options: Options) -> Tuner:
    bench = Bench.__new__(Bench)
    bench.system, bench.data, bench._queries, bench._next = system, small.folder, {}, 0
    return Tuner(Here(bench), small, options)


@pytest.mark.parametrize("lie", ["repeats", "nowhere", "none"])
def test_a_liar_is_credited_with_what_is_true_alone(small: data.DataSet, lie: str) -> None:
    liar = Liar(right_answers(small, "tune"), lie)
    found = tuner(small, liar, Options(tuning=256))
    for honesty in (1, 4, 10):
        assert found.recall({"honesty": honesty}) == pytest.approx(honesty / 10, abs=1e-9)
    assert found.reach() == [{"honesty": 10}]
    assert tuner(small, liar, Options(tuning=256, target=0.65)).reach() == [{"honesty": 7}]


def test_answers_of_another_shape_are_refused(small: data.DataSet) -> None:
    cells = right_answers(small, "tune")
    with pytest.raises(ValueError, match=r"ids \(256, 9\)"):
        recalls(small.keys, small.queries("tune"), cells[:, :9], small.best("tune"))


def test_worse_cells_count_nothing(small: data.DataSet) -> None:
    worst = np.argsort(small.queries("tune") @ small.keys.T, axis=1)[:, : data.K]
    assert recalls(small.keys, small.queries("tune"), worst, small.best("tune")).max() == 0


def test_any_of_tied_cells_counts() -> None:
    keys = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)  # every key five times
    query = np.array([[4, 3, 2, 1]], dtype=np.float32)
    best = best_scores(keys, query, 7)
    for last_two in ([5, 6], [8, 9]):
        assert recalls(keys, query, np.array([[0, 1, 2, 3, 4, *last_two]]), best).item() == 1
    assert recalls(keys, query, np.array([[0, 1, 2, 3, 4, 5, 10]]), best).item() == pytest.approx(6 / 7)


@settings(deadline=None)
@given(cells=st.integers(1, 60), k=st.integers(1, 20), seed=st.integers(0, 99))
def test_best_scores_are_those_of_a_full_sort(cells: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    keys = random.integers(-2, 3, (cells, 3)).astype(np.float32)
    queries = random.standard_normal((4, 3)).astype(np.float32)
    expected = -np.sort(-(queries.astype(np.float64) @ keys.T), axis=1)[:, :k]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.index.score.PART", 7)
        np.testing.assert_allclose(best_scores(keys, queries, k), expected, rtol=1e-6, atol=1e-9)


@settings(deadline=None)
@given(low=st.integers(1, 20), more=st.integers(0, 300), at=st.integers(0, 400), guess=st.integers(0, 400))
def test_the_least_effort_is_found_from_any_guess(low: int, more: int, at: int, guess: int) -> None:
    high, asked = low + more, []

    def recall(effort: int) -> float:
        assert low <= effort <= high
        asked.append(effort)
        return effort / at if effort < at else 1.0

    expected = max(low, at) if at <= high else None
    assert least_effort(recall, low, high, 1.0, guess) == expected
    assert len(asked) <= 25


def test_effort_that_gains_nothing_is_given_up() -> None:
    asked: list[int] = []
    assert least_effort(lambda effort: asked.append(effort) or 0.9, 1, 1 << 20, 0.95, 1) is None  # type: ignore[func-returns-value]
    assert len(asked) < 6


def test_equally_long_keys_keep_the_order_of_inner_products(small: data.DataSet) -> None:
    long = lengthened(small.keys)
    np.testing.assert_allclose(np.linalg.norm(long, axis=1), np.linalg.norm(long[0]), rtol=1e-5)
    queries = np.pad(small.queries("tune"), ((0, 0), (0, 1)))
    distance = ((queries[:, None] - long[None]) ** 2).sum(axis=2)
    nearest = np.argsort(distance, axis=1)[:, : data.K]
    assert recalls(small.keys, small.queries("tune"), nearest, small.best("tune")).min() == 1


def test_generated_data_are_those_of_their_seed() -> None:
    first, again = (data.generated(500, 8, 10, 20, seed=3) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first[:2], again[:2], strict=True))
    norms = np.linalg.norm(first[0], axis=1)
    assert 0.99 < norms.min() < 1.2
    assert 8 < norms.max() < 10.01


@pytest.mark.parametrize(
    ("row", "last_resort"),
    [*((row, False) for row in ROWS), *((row, True) for row in ROWS if ROWS[row].graph)],
)
def test_every_system_that_is_installed_finds_what_exact_search_finds(
    row: str, last_resort: bool, small: data.DataSet, tmp_path: Path
) -> None:
    """With all of its effort, one by one as in a batch, and when it was saved and loaded."""
    build = (ROWS[row].fallbacks if last_resort else ROWS[row].builds)(2000, 16)[-1]
    try:
        bench = Bench(row, build, small.folder, threads=1)
    except PackageMissingError as error:
        pytest.skip(str(error))
    bench.build(tmp_path)
    effort, (_, most), others = bench.ranges()
    setting = others[-1] | ({} if effort is None else {effort: most})
    found = bench.answers(setting, "tune", 64, data.K, 64)
    best = small.best("tune")[:64]
    queries = small.queries("tune")[:64]
    recall = recalls(small.keys, queries, found, best).mean()
    assert recall >= (0.85 if row == "hmn wta-hash" else 0.99)
    alone = bench.answers(setting, "tune", 64, data.K, 1)
    assert recalls(small.keys, queries, alone, best).mean() == pytest.approx(recall, abs=0.01)
    again = Bench(row, build, small.folder, threads=1)
    again.load(tmp_path)
    reloaded = again.answers(setting, "tune", 64, data.K, 64)
    assert recalls(small.keys, queries, reloaded, best).mean() == pytest.approx(recall, abs=0.01)
    reads = bench.reads(setting, "tune", 64, data.K)
    assert reads is None or reads > 0


def test_what_was_timed_is_judged(small: data.DataSet) -> None:
    bench = Bench("hmn exact", {}, small.folder, threads=1)
    bench.build(None)
    asked, spent, which, cells = bench.run({}, "measure", data.K, 32, 0.01)
    assert asked % 32 == 0
    assert spent >= 0.01
    judged = recalls(small.keys, small.queries("measure")[which], cells, small.best("measure")[which])
    assert judged.min() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_child_in_a_long_call_ends_with_its_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=where) as one:
        assert one.stdout is not None
        child = int(one.stdout.readline())
        time.sleep(0.5)  # until it waits
        one.kill()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child went on without its parent")


def test_a_child_works_in_another_process_and_reports_its_errors() -> None:
    child = Child("fractions:Fraction", 22, 7)
    assert child.call("limit_denominator", 1) == 3
    with pytest.raises(ChildError, match="ZeroDivisionError"):
        child.call("__truediv__", 0)
    with pytest.raises(ChildError, match="ended with status 0"):
        child.call("limit_denominator", 1)
    child.close()
    with pytest.raises(PackageMissingError, match="pip install nowhere"):
        Child("bench.index.systems.base:package", "no_such_module", "nowhere")


LAYERS = [attention.OURS, attention.THEIRS, attention.SOFTMAX, attention.PRODUCT_KEYS]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_steps_forward_and_backward(kind: str, small: data.DataSet) -> None:
    settings = {attention.OURS: {"num_clusters": 20}, attention.THEIRS: {"factory": "IVF20,Flat"}}
    try:
        layer = attention.Layer(kind, settings.get(kind, {}), small.folder, 1)
    except (PackageMissingError, MissingPackageError) as error:
        pytest.skip(str(error))
    layer.build()
    if kind in settings:
        layer.set(20)
        best = best_scores(small.keys, small.queries("tune"), attention.K)
        found = recalls(small.keys, small.queries("tune"), layer.cells("tune", 256), best)
        assert found.mean() > 0.99
    spent = layer.run(0, 2)
    assert len(spent) == 2
    assert min(spent) > 0
    assert any(parameter.grad is not None for parameter in layer.parameters)


def test_the_fastest_point_of_all_builds_is_chosen() -> None:
    def point(speed: float, ef: int) -> dict[str, Any]:
        return {"speed": {"256": speed, "1": -speed}, "setting": {"ef": ef}}

    sweeps = [
        {"build": {"links": 8}, "reached": [point(3, 1), point(5, 2)]},
        {"build": {"links": 9}, "reached": [point(4, 3)]},
        {"build": {"links": 10}, "reached": []},
    ]
    assert chosen(sweeps, 256) == ({"links": 8}, {"ef": 2})
    assert chosen(sweeps, 1) == ({"links": 8}, {"ef": 1})
    assert chosen(sweeps[2:], 1) is None


def test_finished_parts_count_for_their_key_alone(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert kept.read("sweep", {"version": 1}) is None
    kept.write("sweep", {"version": 1}, [1.5])
    assert kept.read("sweep", {"version": 1}) == [1.5]
    assert kept.read("sweep", {"version": 2}) is None
    assert slug("faiss IVF-Flat", "a/b", None) == "faiss_IVF-Flat-a_b-None"


def test_frontier_leaves_out_what_another_point_beats() -> None:
    points = [(0.9, 10.0), (0.95, 8.0), (0.94, 7.0), (1.0, 2.0), (0.8, 9.0)]
    assert frontier(points, 1) == [(0.9, 10.0), (0.95, 8.0), (1.0, 2.0)]
    assert frontier(points, -1) == [(1.0, 2.0)]


def test_targets_are_judged_by_the_median_of_ratios() -> None:
    rounds = {
        "hmn cluster": {"speeds": [8.0, 9.0, 40.0], "build": {"codes": "int4"}},
        "faiss IVF-Flat": {"speeds": [2.0, 2.0, 2.0], "build": {}},
        "ScaNN": {"speeds": [8.0, 9.0, 10.0], "build": {}},
    }
    seconds = {"faiss IVF-Flat": [2.0, 2.0, 2.0], "hmn cluster": [4.0, 1.0, 1.0]}
    found = {"rounds": {"256": rounds, "1": {}}, "builds": {"builds": {}, "seconds": seconds}}
    lines = {one["target"]: one for one in report.must_show({"data": {"a": found}})}
    assert lines["(a) batch 256, times faiss IVF-Flat"]["measured"] == (4.5, 4.0, 20.0)
    assert lines["(a) batch 256, times faiss IVF-Flat"]["verdict"] == "met"
    assert lines["(a) batch 256, times the best ScaNN"]["verdict"] == "missed"
    assert lines["(a) batch 1, times faiss IVF-Flat"]["verdict"] == "not measured"
    assert lines["(a) build, times faiss IVF-Flat"]["measured"] == (2.0, 0.5, 2.0)


def test_a_whole_run_is_written_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class InThisProcess:
        def __init__(self, _make: str, row: str, *arguments: Any) -> None:
            made.append(row)
            self.bench = Bench(row, *arguments)

        def call(self, method: str, *arguments: Any) -> Any:
            return getattr(self.bench, method)(*arguments)

        def close(self) -> None:
            pass

    for module in ("harness", "rounds"):
        monkeypatch.setattr(f"bench.index.{module}.Child", InThisProcess)
        monkeypatch.setattr(f"bench.index.{module}.version_of", lambda _row: "1", raising=False)
    monkeypatch.setattr("bench.index.run.limit_threads", lambda _threads: None)
    arguments = ["--quick", "--threads", "1", "--work", str(tmp_path), "--no-attention"]
    arguments += ["--only", "hmn exact", "--only", "usearch"]
    main(arguments)
    assert "hmn exact" in made
    results = json.loads((tmp_path / "index.json").read_text())
    exact = results["data"]["small"]["rounds"]["256"]["hmn exact"]
    assert exact["recall"] == exact["recall_timed"] == 1
    assert exact["reads"] == 2000
    assert len(exact["speeds"]) == 2
    assert "| hmn exact |" in (tmp_path / "index.md").read_text()
    assert [one["verdict"] for one in results["must_show"] if "batch" in one["target"]] == [
        "not measured"
    ] * 3
    made.clear()
    main(arguments)
    assert "hmn exact" not in made
