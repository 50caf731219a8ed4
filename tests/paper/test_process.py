from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time

import pytest

from hmn.paper.process import peak_mib


def test_peak_memory_is_the_processs_own_and_its_largest() -> None:
    held = bytearray(b"1" * (200 << 20))
    check = "from hmn.paper.process import peak_mib; print(peak_mib())"
    figures = []
    for before in ("", "x = bytearray(b'1' * (100 << 20)); del x; "):
        done = subprocess.run(
            [sys.executable, "-c", before + check], capture_output=True, text=True, check=True
        )
        figures.append(float(done.stdout))
    assert peak_mib() > 200 + figures[0], "the parent's memory is not the child's"
    assert 190 < figures[1] - figures[0] < 250, "the copy that made it counts as well, though both are gone"
    del held


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what glibc does with freed memory is changed")
def test_a_run_keeps_the_memory_that_it_frees() -> None:
    keep = "from hmn.paper.process import keep_memory; keep_memory()\n"
    check = "pages = lambda: int(open('/proc/self/statm').read().split()[1])\n"
    check += "before = pages(); x = b'1' * (100 << 20); del x; print(pages() - before)"
    kept = []
    for start in ("", keep):
        done = subprocess.run(
            [sys.executable, "-c", start + check], capture_output=True, text=True, check=True
        )
        kept.append(int(done.stdout) * resource.getpagesize() >> 20)
    assert kept[0] < 10 < 90 < kept[1], "MiB that stay with the process"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a child does not know its parent's end")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    child = "import time; from hmn.paper.process import follow_parent; follow_parent(); "
    child += "print('on', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.kill()
        began = time.monotonic()
        assert process.stdout.read() == ""
        assert time.monotonic() - began < 30, "the pipe closes when the child has ended too"
