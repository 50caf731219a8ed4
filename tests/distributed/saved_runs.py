"""Training runs over ranks that the tests save and take up again."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytest import MonkeyPatch
from tests.distributed.layers import encoded
from tests.distributed.processes import D, K, V, raised, share
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hmn.distributed import Ranks, ShardedCheckpoint, ShardedMemory, keep_shards
from hmn.errors import ConfigError
from hmn.nn import KMIPSAttention, Memory, RowAdam

CELLS, BATCH = 203, 8
"""Number of cells, and of queries of all ranks per step."""
SAVED, LAST = 3, 7
"""Steps that are done when a run is saved, and at its end."""
OPTIMIZERS = ("rows", "adam", "momentum", "fixed", "clusters")
"""Ways to train the cells; "clusters" is as "rows", with an approximate index."""


class Run:
    """A small model on the ranks of a group, trained by batches that follow from the number of the step."""

    def __init__(self, how: str, sizes: list[int], ranks: Ranks, seed: int = 0) -> None:
        self.ranks, self.sizes, self.how = ranks, sizes, how
        draw = torch.Generator().manual_seed(seed)
        tables = [torch.randn(sum(sizes), columns, generator=draw) for columns in (D, V)]
        rows = [share(table, sizes, ranks.rank) for table in tables]
        cells = Memory(*rows, trainable=how != "fixed", sparse=how != "adam")
        index = "cluster:num_clusters=8,num_probes=2" if how == "clusters" else "exact"
        self.memory = ShardedMemory(cells, index, ranks=ranks, average=True)
        torch.manual_seed(seed)
        self.linear, self.attention = nn.Linear(D, D), KMIPSAttention(self.memory, K)
        self.model: nn.Module = nn.Sequential(self.linear, self.attention)
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(self.linear.parameters(), lr=0.05)]
        rows = list(self.attention.parameters())
        if how in ("rows", "clusters"):
            self.optimizers.append(RowAdam(rows, lr=0.05, weight_decay=0.01))
        if how == "adam":
            self.optimizers.append(torch.optim.Adam(rows, lr=0.05, amsgrad=True))
        if how == "momentum":
            self.optimizers.append(torch.optim.SGD(rows, lr=0.05, momentum=0.9))
        if ranks.size > 1:
            keep_shards(self.model)
            self.model = DistributedDataParallel(self.model, process_group=ranks._group)
        for optimizer in self.optimizers[1:]:
            self.attention.follow(optimizer)
        self.drawn = torch.Generator().manual_seed(ranks.rank)

    def checkpoint(self, folder: Path, **settings: Any) -> ShardedCheckpoint:
        return ShardedCheckpoint(folder, self.model, self.optimizers, generators=[self.drawn], **settings)

    def train(self, start: int, end: int) -> list[float]:
        """The mean loss of each step over the queries of all ranks."""
        losses = []
        for step in range(start, end):
            query = torch.randn(BATCH, D, generator=torch.Generator().manual_seed(step))
            sizes = [BATCH // self.ranks.size] * self.ranks.size
            with self.ranks.together():
                for optimizer in self.optimizers:
                    optimizer.zero_grad()
                loss = self.model(share(query, sizes, self.ranks.rank)).value.square().mean()
                loss.backward()
                for optimizer in self.optimizers:
                    optimizer.step()
                every, _ = self.ranks.gather(loss.detach().view(1, 1), "loss")
            losses.append(float(every.mean()))
        return losses

    def tensors(self) -> dict[str, Tensor]:
        """What it has learned; keys and values of this rank alone."""
        shard = self.memory.memory.shard
        assert shard.values is not None
        return {
            "keys": shard.keys.detach().clone(),
            "values": shard.values.detach().clone(),
            "linear": self.linear.weight.detach().clone(),
        }


class Broken(torch.Generator):
    """A generator without a state, which ends a save."""

    def get_state(self) -> Tensor:
        raise ConfigError("no state")


def resharded(rank: int, _: int) -> dict[str, Any]:
    """Runs of two ranks, saved, and continued on other numbers of ranks, in the folder of this process."""
    pair = dist.new_group([0, 1], backend="gloo")
    four, two = Ranks(timeout=120), Ranks(pair, timeout=120) if rank < 2 else None
    got: dict[str, Any] = {"few": _few_cells(four)}
    for how in OPTIMIZERS:
        folder = Path(f"saved-{how}")
        if two is not None:
            got[how] = {"left alone": _continued(Run(how, [120, 83], two), 0)}
            run = Run(how, [120, 83], two)
            checkpoint = run.checkpoint(folder, every=0)
            losses = run.train(0, SAVED)
            torch.rand(3 + rank, generator=run.drawn)
            extra = {"losses": losses, "best": float("inf"), "table": torch.arange(3), "rank": rank}
            got[how]["saved"] = checkpoint.save_if_due(SAVED, extra)
            got[how]["drawn"] = torch.rand(2, generator=run.drawn), torch.rand(2)
        four.tell(b"", "saved")
        if two is not None:
            run = Run(how, [120, 83], two, seed=1)
            checkpoint = run.checkpoint(folder)
            got[how]["step"], got[how]["extra"] = checkpoint.load(), checkpoint.extra
            got[how]["drawn again"] = torch.rand(2, generator=run.drawn), torch.rand(2)
            got[how]["two"] = _continued(run, SAVED)
            run = Run(how, [3, 200], two, seed=1)
            run.checkpoint(folder).load()
            got[how]["uneven"] = _continued(run, SAVED)
        run = Run(how, [90, 0, 3, 110], four, seed=1)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            run.checkpoint(folder).load()
        got.setdefault(how, {})["warned"] = [str(warning.message) for warning in warned]
        got[how]["four"] = _continued(run, SAVED)
    got["encoded"] = _encoded(four)
    got["clocks"] = _clocks(four)
    got["errors"] = _errors(four)
    return got


def _continued(run: Run, start: int) -> dict[str, Any]:
    return {"losses": run.train(start, LAST), **run.tensors()}


def _few_cells(ranks: Ranks) -> dict[str, Any]:
    """Three cells, saved by three of four ranks, and loaded by others of them."""
    run = Run("rows", [1, 1, 1, 0], ranks)
    run.train(0, 2)
    run.checkpoint(Path("few")).save(2)
    other = Run("rows", [0, 1, 0, 2], ranks, seed=1)
    other.checkpoint(Path("few")).load()
    return {"saved": run.tensors(), "loaded": other.tensors()}


def _encoded(ranks: Ranks) -> dict[str, Any]:
    """A memory of encoded cells, with its lagging snapshot, saved and loaded by other shares of the ranks."""
    got = {}
    for name, sizes in (("saved", [50, 0, 60, 7]), ("loaded", [1, 100, 16, 0])):
        memory = ShardedMemory(encoded(sizes, ranks.rank), ranks=ranks)
        encoder = memory.memory.shard.encoder
        with torch.no_grad():
            encoder.map.weight.mul_(2)  # type: ignore[union-attr, operator]
            if name == "saved":
                encoder.kind.weight.add_(1)  # type: ignore[union-attr, operator]
        model = KMIPSAttention(memory, K)
        adam = torch.optim.SparseAdam(encoder.kind.parameters(), lr=0.1)  # type: ignore[union-attr]
        checkpoint = ShardedCheckpoint("encoded", model, adam)
        if name == "saved":
            model(torch.ones(2, D)).score.sum().backward()
            adam.step()
            checkpoint.save(1)
        else:
            checkpoint.load()
        got[name] = {
            "snapshot": memory.memory.snapshot().clone(),
            "kind": encoder.kind.weight.detach().clone(),  # type: ignore[union-attr, operator]
            "moments": adam.state_dict()["state"][0]["exp_avg"],
            "step": adam.state_dict()["state"][0]["step"],
        }
    return got


def _clocks(ranks: Ranks) -> list[bool]:
    """Whether each rank saved, where only the clock of rank 0 says so, and where only those of others do."""
    run = Run("fixed", [2, 2, 2, 2], ranks)
    checkpoint = run.checkpoint(Path("clocks"), every=0 if ranks.rank == 0 else 1e6)
    saved = [checkpoint.save_if_due(1)]
    checkpoint.every = 1e6 if ranks.rank == 0 else 0
    return [*saved, checkpoint.save_if_due(2)]


def _errors(ranks: Ranks) -> dict[str, str]:
    """What each rank raises where a file of the last rank is damaged or cannot be written."""
    last = ranks.size - 1
    run = Run("rows", [50, 50, 50, 53], ranks)
    checkpoint = run.checkpoint(Path("damaged"))
    run.train(0, 1)
    checkpoint.save(1)
    before, got = run.tensors(), {}
    if ranks.rank == last:
        checkpoint._generators = [Broken()]
    got["save"] = raised(lambda: checkpoint.save(2))
    checkpoint._generators = [run.drawn]
    with MonkeyPatch.context() as patch:
        if ranks.rank:
            patch.setattr(ranks, "tell", lambda *what: (Ranks.tell(ranks, *what), time.sleep(0.2))[0])
        else:
            patch.setattr(checkpoint, "_writing", lambda *_: 1 // 0)
        got["first"] = raised(lambda: checkpoint.save(2))
    got["extra"] = raised(lambda: checkpoint.save(2, [1]))  # type: ignore[arg-type]
    got["step"] = str(checkpoint.load())
    if ranks.rank == last:
        file = Path("damaged/cells-0-000000000150.safetensors")
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    ranks.tell(b"", "damage")
    run.train(1, 2)
    trained = run.tensors()
    got["load"] = raised(checkpoint.load)
    now = run.tensors()
    assert all(torch.equal(now[name], trained[name]) for name in now)
    assert len(before["keys"]) == 0 or not torch.equal(before["keys"], now["keys"])
    return got
