"""Systems in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.index.score import recalls
from bench.index.systems.base import PackageMissingError
from bench.index.worker import Bench, Child, ChildError

from bench.index import data

PARENT = """
from bench.index.worker import Child

if __name__ == "__main__":
    child = Child("threading:Event")
    print(child._process.pid, flush=True)
    child.call("wait", 600)
"""


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
