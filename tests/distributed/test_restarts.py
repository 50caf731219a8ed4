"""``torchrun`` starts a training again after ``kill -9``, and its losses are those of a run left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench.distributed.restarts import Run
from bench.distributed.train import model_of, train_step

from hmn.distributed import Ranks
from hmn.nn import RowAdam

STEPS, CELLS, KILLED = 40, 500, 15
"""Steps and cells of the run, and the step from which it is killed."""


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this build of PyTorch has no torch.distributed with gloo",
)
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path, 2, 1, ["--steps", str(STEPS), "--cells", str(CELLS), "--every", "0.1"])
    try:
        run.wait_for("step", KILLED, 1)
        run.kill(1)
        notes = run.finish()
    finally:
        run.stop()
    first, second = (note["start"] for note in notes if "start" in note)
    assert first == 0 and 0 < second <= STEPS
    done: dict[int, list[float]] = {}
    for note in notes:
        if "step" in note:
            assert done.setdefault(note["step"], note["loss"]) == note["loss"]  # bit for bit
    assert list(done) == list(range(STEPS))
    # one process that was never saved
    ranks = Ranks()
    encoder, attention = model_of(CELLS, ranks)
    optimizers = [torch.optim.AdamW(encoder.parameters(), lr=1e-3), RowAdam(attention.parameters(), lr=1e-2)]
    model = torch.nn.Sequential(encoder, attention)
    for step, losses in done.items():
        (loss,) = train_step(step, model, optimizers, ranks)
        assert sum(losses) / 2 == pytest.approx(loss, rel=1e-5)
