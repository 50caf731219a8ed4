from __future__ import annotations

import pytest
from bench.index.load.busy import BUSY, busy_processes


def test_busy_processes_run_until_the_block_ends() -> None:
    with pytest.raises(KeyboardInterrupt), busy_processes() as processes:
        assert [process.poll() for process in processes] == [None] * BUSY
        raise KeyboardInterrupt
    assert all(process.poll() is not None for process in processes)
