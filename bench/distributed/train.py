"""A training run over ranks that may be killed: ``torchrun … -m bench.distributed.train FOLDER``.

Each rank notes its process id in ``rank-R.pid``. Rank 0 notes each start and each step in ``steps.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from zlib import crc32

import torch
from torch import nn

from hmn.distributed import Ranks, ShardedCheckpoint, ShardedMemory, sum_gradients
from hmn.nn import KMIPSAttention, Memory, RowAdam

FEATURES, K, BATCH = 64, 16, 32
"""Features of keys and values, cells per query, and queries per step of all ranks."""
LOG = "steps.jsonl"
"""File that notes starts and steps."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.distributed.train", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the checkpoint and of what is noted")
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between checkpoints")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ranks = Ranks.join()
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / f"rank-{ranks.rank}.pid").write_text(str(os.getpid()))
    encoder, attention = model_of(options.cells, ranks)
    model = nn.Sequential(encoder, attention)
    optimizers = [
        torch.optim.AdamW(encoder.parameters(), lr=1e-3),
        RowAdam(attention.parameters(), lr=1e-2),
    ]
    attention.follow(optimizers[1])
    checkpoint = ShardedCheckpoint(options.folder / "checkpoint", model, optimizers, every=options.every)
    log = (options.folder / LOG).open("a") if ranks.rank == 0 else None
    start = checkpoint.load() or 0
    _note(log, start=start, time=time.time())
    for step in range(start, options.steps):
        loss = train_step(step, model, optimizers, ranks)
        _note(log, step=step, loss=loss, time=time.time())
        checkpoint.save_if_due(step + 1)
    own = [part.detach().numpy().tobytes() for part in (*attention.parameters(), *encoder.parameters())]
    sums = ranks.report(b"".join(crc32(part).to_bytes(4) for part in own), "checksums")
    _note(log, end=[part.hex() for part in sums], time=time.time())


def model_of(cells: int, ranks: Ranks) -> tuple[nn.Linear, KMIPSAttention]:
    """The same model on any number of ranks; its cells are drawn row by row."""
    shares = [len(part) for part in torch.tensor_split(torch.arange(cells), ranks.size)]
    first = sum(shares[: ranks.rank])
    rows = torch.arange(first, first + shares[ranks.rank]).unsqueeze(1)
    phases = torch.arange(1, FEATURES + 1) * torch.tensor([[0.7], [1.3]]).unsqueeze(1)
    keys, values = ((rows + 1) * phases).sin().unbind()
    memory = Memory(keys.contiguous(), values.contiguous(), trainable=True)
    torch.manual_seed(0)
    sharded = ShardedMemory(memory, ranks=ranks, average=True)
    return nn.Linear(FEATURES, FEATURES), KMIPSAttention(sharded, K)


def train_step(
    step: int, model: nn.Module, optimizers: list[torch.optim.Optimizer], ranks: Ranks
) -> list[float]:
    """A step on the batch that follows from its number; returns the loss of each rank."""
    draw = torch.Generator().manual_seed(step)
    query, target = torch.randn(2, BATCH, FEATURES, generator=draw)
    own, wanted = (torch.tensor_split(part, ranks.size)[ranks.rank] for part in (query, target.sin()))
    with ranks.together():
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = (model(own).value - wanted).square().mean()
        loss.backward()
        sum_gradients(model, ranks, average=True)
        for optimizer in optimizers:
            optimizer.step()
        losses, _ = ranks.gather(loss.detach().view(1), "losses")
    return losses.tolist()


def _note(log: object, **what: object) -> None:
    if log is not None:
        print(json.dumps(what), file=log, flush=True)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
