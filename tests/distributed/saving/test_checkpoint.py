"""A run that is saved and continued, on as many ranks or others, is one that was left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distributed.processes import D, V, run
from tests.distributed.saved_runs import CELLS, LAST, OPTIMIZERS, SAVED, Run, resharded
from tests.store.crashes import DEADLY
from torch import Tensor, nn

import hmn.errors
from hmn.distributed import Ranks, ShardedCheckpoint, ShardedMemory
from hmn.errors import BundleError, ConfigError
from hmn.nn import KMIPSAttention, Memory, RowAdam
from hmn.store.bundle import writing_bundle

WARNED = "the checkpoint is of 2 ranks and there are {}: random generators stay as they are"

gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this build of PyTorch has no torch.distributed with gloo",
)


# Forks one writer per change to the disk, which kills itself just before that change; then loads.
KILLER = (
    DEADLY
    + """
import os, signal, sys
import torch
from hmn.distributed import ShardedCheckpoint, ShardedMemory
from hmn.nn import KMIPSAttention, Memory
torch.set_num_threads(1)
rows = torch.nn.Parameter(torch.zeros(50, 4))
layer = KMIPSAttention(ShardedMemory(Memory(rows, trainable=True)), 2)
checkpoint, seen = ShardedCheckpoint(sys.argv[1], layer), 0
def save(step):
    rows.data.fill_(step)
    checkpoint.save(step, {"twice": 2 * step})
loaded, status, change = [], -9, 0
while status:
    change += 1
    save(1)
    child = os.fork()
    if not child:
        for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir"):
            setattr(os, name, deadly(getattr(os, name), change))
        save(2)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -9), status
    rows.data.fill_(0)
    loaded.append(checkpoint.load())
    assert bool((rows == loaded[-1]).all()) and checkpoint.extra == {"twice": 2 * loaded[-1]}
print(*loaded)
"""
)


class Ran:
    """What four ranks returned, and the folder with their checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            self.got = run(resharded, 4, folder)

    def of(self, how: str, what: str) -> list[Any]:
        return [part[how][what] for part in self.got if what in part[how]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("ranks"))


def near(got: list[dict[str, Any]], wanted: Run, losses: list[float]) -> None:
    """Whether all ranks together have what one process has learned."""
    for name, tensor in wanted.tensors().items():
        joined = got[0][name] if name == "linear" else torch.cat([part[name] for part in got])
        torch.testing.assert_close(joined, tensor, rtol=1e-5, atol=3e-6)
    for part in got:
        assert part["losses"] == pytest.approx(losses[LAST - len(part["losses"]) :], rel=1e-5)


@gloo
@pytest.mark.slow
@pytest.mark.parametrize("how", OPTIMIZERS)
def test_a_run_goes_on_with_any_number_of_ranks(ran: Ran, how: str) -> None:
    alone = Run(how, [CELLS], Ranks())  # one process, which was never saved
    before, losses = alone.tensors(), alone.train(0, LAST)
    assert how == "fixed" or not torch.equal(before["keys"], alone.tensors()["keys"])
    for number_of_ranks in ("left alone", "two", "uneven", "four"):
        if how != "clusters":  # whose clusters depend on the cells that a rank holds
            near(ran.of(how, number_of_ranks), alone, losses)
    again = Run(how, [CELLS], Ranks(), seed=1)
    checkpoint = again.checkpoint(ran.folder / f"saved-{how}")
    with pytest.warns(UserWarning, match=WARNED.format(1)):
        assert checkpoint.load() == SAVED
    if how != "clusters":
        near([{"losses": again.train(SAVED, LAST), **again.tensors()}], alone, losses)
    # bit for bit on as many ranks; sums of sparse momentum are taken in another order
    for one, other in zip(ran.of(how, "left alone"), ran.of(how, "two"), strict=True):
        if how != "momentum":
            assert one["losses"][SAVED:] == other["losses"]
            assert all(torch.equal(one[name], other[name]) for name in ("keys", "values", "linear"))


@gloo
@pytest.mark.slow
def test_what_rank_0_adds_and_random_numbers_come_back(ran: Ran) -> None:
    for how in OPTIMIZERS:
        assert ran.of(how, "saved") == [True, True] and ran.of(how, "step") == [SAVED, SAVED]
        for extra, left in zip(ran.of(how, "extra"), ran.of(how, "left alone"), strict=True):
            assert extra.pop("table").tolist() == [0, 1, 2]
            assert extra == {"losses": left["losses"][:SAVED], "best": float("inf"), "rank": 0}
        for one, other in zip(ran.of(how, "drawn"), ran.of(how, "drawn again"), strict=True):
            assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
        warned = ran.of(how, "warned")
        assert [len(messages) for messages in warned] == [1, 0, 0, 0]
        assert warned[0][0].startswith(WARNED.format(4))


@gloo
@pytest.mark.slow
def test_fewer_cells_than_ranks(ran: Ran) -> None:
    for name in ("keys", "values"):
        saved, loaded = (
            torch.cat([part["few"][when][name] for part in ran.got]) for when in ("saved", "loaded")
        )
        assert len(saved) == 3 and torch.equal(saved, loaded)


@gloo
@pytest.mark.slow
def test_encoders_are_saved_once_and_snapshots_by_cell(ran: Ran) -> None:
    saved, loaded = ([part["encoded"][when] for part in ran.got] for when in ("saved", "loaded"))
    snapshots = [torch.cat([part["snapshot"] for part in parts]) for parts in (saved, loaded)]
    assert len(snapshots[0]) == 117 and torch.equal(*snapshots)
    for part in loaded:  # the gradients of rank 0 were not summed with those of others: its own are saved
        assert torch.equal(part["kind"], saved[0]["kind"]) and part["step"] == 1
        assert torch.equal(part["moments"], saved[0]["moments"])


@gloo
@pytest.mark.slow
def test_the_clock_of_rank_0_decides(ran: Ran) -> None:
    assert [part["clocks"] for part in ran.got] == [[True, False]] * 4


@gloo
@pytest.mark.slow
def test_an_error_of_one_rank_reaches_all_and_the_checkpoint_before_stays(ran: Ran) -> None:
    for step, error in (("save", "ConfigError: no state"), ("load", "BundleError: ")):
        errors = [part["errors"][step] for part in ran.got]
        assert errors[3].startswith(error)
        assert errors[:3] == [f"RankError: rank 3 of 4 has failed: {errors[3]}"] * 3
    errors = [part["errors"]["first"] for part in ran.got]
    assert errors[0].startswith("ZeroDivisionError: ")  # before the others have looked for its folder
    assert errors[1:] == [f"RankError: rank 0 of 4 has failed: {errors[0]}"] * 3
    assert {part["errors"]["extra"] for part in ran.got} == {
        "ConfigError: extra is list, expected a dictionary: give it names"
    }
    assert {part["errors"]["step"] for part in ran.got} == {"1"}


@gloo
@pytest.mark.slow
def test_files_are_safetensors_and_json_and_untouched_rows_take_no_room(ran: Ran) -> None:
    for how in OPTIMIZERS:
        names = {file.name for file in (ran.folder / f"saved-{how}").iterdir()}
        indexes = {f"index-0-{rank:05d}.safetensors" for rank in range(2)}
        assert names == (indexes if how == "clusters" else set()) | {
            "cells-0-000000000000.safetensors",
            "cells-0-000000000120.safetensors",
            "checkpoint.json",
            "manifest.json",
            "random-00000.safetensors",
            "random-00001.safetensors",
            "replicated.safetensors",
        }
    assert not [file for file in ran.folder.iterdir() if file.name.startswith(".")]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    run = Run("rows", [CELLS], Ranks())
    run.train(0, 2)
    run.checkpoint(tmp_path / "saved").save(2, {"loss": 1.0})
    return tmp_path / "saved"


def test_nothing_was_saved(tmp_path: Path) -> None:
    assert Run("rows", [CELLS], Ranks()).checkpoint(tmp_path / "new" / "folder").load() is None


def test_it_is_saved_when_it_is_due(tmp_path: Path) -> None:
    checkpoint = Run("rows", [CELLS], Ranks()).checkpoint(tmp_path / "saved", every=0.5)
    assert [checkpoint.save_if_due(step) for step in range(2)] == [False, False]
    checkpoint._saved -= 0.5
    assert [checkpoint.save_if_due(step) for step in (2, 3)] == [True, False]
    assert checkpoint.load() == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_save_that_is_killed_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(hmn.errors.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = [int(step) for step in done.stdout.split()]
    assert loaded == sorted(loaded) and loaded.count(1) > 8 and loaded.count(2) > 2
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "name", ["cells-0-000000000000.safetensors", "replicated.safetensors", "random-00000.safetensors",
             "checkpoint.json"]
)  # fmt: skip
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: data[: len(data) // 2], "damaged, has .* bytes, expected"),
        (lambda data: data[:-3] + bytes([data[-3] ^ 4]) + data[-2:], "damaged, .* with CRC32"),
        (None, "missing, expected a file of"),
    ],
    ids=["half", "changed", "missing"],
)
def test_damaged_files_are_named_and_nothing_is_loaded(
    saved: Path, name: str, damage: Damage | None, error: str
) -> None:
    file = saved / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    run = Run("rows", [CELLS], Ranks(), seed=1)
    before, checkpoint = run.tensors(), run.checkpoint(saved)
    with pytest.raises(BundleError, match=f"{name}: {error}.*restore it from a copy"):
        checkpoint.load()
    assert all(torch.equal(tensor, before[part]) for part, tensor in run.tensors().items())


@pytest.mark.parametrize(
    ("memory", "linear", "error"),
    [
        (
            Memory(torch.ones(CELLS, D), torch.ones(CELLS, V + 1)),
            D,
            r"value_table.weight has rows of \(5,\) in .*, the model's rows of \(6,\)",
        ),
        (
            Memory(torch.ones(CELLS, D).double(), torch.ones(CELLS, V).double()),
            D,
            "in torch.float32, the model's",
        ),
        (Memory(torch.ones(CELLS, D)), D, "value_table.weight has rows of .*, the model's none"),
        (Memory(torch.ones(CELLS + 1, D), torch.ones(CELLS + 1, V)), D, "has 203 cells, the model's 204"),
        (Memory(torch.ones(CELLS, D), torch.ones(CELLS, V)), D + 1, r"0.weight is \(6, 6\) of"),
        (None, D, "the model has no memory '1.memory' over ranks"),
    ],
    ids=["features", "type", "values", "cells", "layer", "no memory"],
)
def test_another_model_is_refused(saved: Path, memory: Memory | None, linear: int, error: str) -> None:
    parts = [nn.Linear(D, linear)]
    model = nn.Sequential(*parts, *([] if memory is None else [KMIPSAttention(ShardedMemory(memory), 2)]))
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(parts[0].parameters())]
    with pytest.raises(BundleError, match=rf"saved: the checkpoint is of another run: .*{error}"):
        ShardedCheckpoint(saved, model, optimizers).load()


@pytest.mark.parametrize(
    ("optimizers", "error"),
    [
        (lambda run: run.optimizers[:1], "it has 2 optimizers, the run 1"),
        (lambda run: [torch.optim.SGD(run.linear.parameters()), run.optimizers[1]], "has kind 'AdamW'"),
        (lambda run: [torch.optim.AdamW([run.linear.weight]), run.optimizers[1]], "has names"),
    ],
)
def test_other_optimizers_are_refused(saved: Path, optimizers: Callable[[Run], Any], error: str) -> None:
    run = Run("rows", [CELLS], Ranks())
    with pytest.raises(BundleError, match=error):
        ShardedCheckpoint(saved, run.model, optimizers(run)).load()


def test_folders_with_something_else_are_refused_at_once(tmp_path: Path) -> None:
    run = Run("rows", [CELLS], Ranks())
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "notes.txt").write_text("keep me")
    with pytest.raises(BundleError, match="files: got a file, or a folder that is not a bundle"):
        run.checkpoint(tmp_path / "files")
    with writing_bundle(tmp_path / "model") as folder:
        (folder / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="model: got the folder of something else, such as a model"):
        run.checkpoint(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").exists()


def test_settings_are_checked(tmp_path: Path) -> None:
    run = Run("rows", [CELLS], Ranks())
    with pytest.raises(ConfigError, match=r"optimizer 0 is str, expected optimizers of torch\.optim"):
        ShardedCheckpoint(tmp_path, torch.nn.Linear(2, 2), ["adam"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"model is Tensor, expected the torch.nn.Module"):
        ShardedCheckpoint(tmp_path, torch.ones(2))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"optimizer 0 .* trains a parameter of shape .* not in the model"):
        ShardedCheckpoint(tmp_path / "new", run.linear, run.optimizers[1])
    for every in (-1, True, "30", float("nan")):
        with pytest.raises(ConfigError, match=r"every is .*, expected a number of seconds"):
            run.checkpoint(tmp_path / "new", every=every)
    checkpoint = run.checkpoint(tmp_path / "new")
    for step in (-1, 1.0, True):
        with pytest.raises(ConfigError, match=r"step is .*, expected a whole number"):
            checkpoint.save(step)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="values/extra/odd is of type object"):
        checkpoint.save(1, {"odd": object()})
    assert checkpoint.load() is None and not list(tmp_path.iterdir())


def test_an_optimizer_that_mixes_cells_is_refused(tmp_path: Path) -> None:
    run = Run("adam", [CELLS], Ranks())
    mixing = torch.optim.Adafactor(run.attention.parameters())
    run.optimizers[1:] = [mixing]
    run.train(0, 1)
    with pytest.raises(ConfigError, match=r"col_var of .* for 203 cells, expected a row per cell"):
        run.checkpoint(tmp_path / "new").save(1)


def test_several_memories_one_of_which_two_layers_read(tmp_path: Path) -> None:
    def made(seed: int) -> tuple[nn.ModuleList, list[torch.optim.Optimizer]]:
        draw = torch.Generator().manual_seed(seed)
        shared = ShardedMemory(Memory(torch.randn(40, D, generator=draw), trainable=True))
        other = ShardedMemory(Memory(torch.randn(9, D, generator=draw).half(), trainable=True))
        layers = nn.ModuleList(
            [KMIPSAttention(shared, 3), KMIPSAttention(shared, 2), KMIPSAttention(other, 2)]
        )
        first, second = (list(memory.memory.parameters()) for memory in (shared, other))
        return layers, [torch.optim.SparseAdam(first), RowAdam(second, lr=0.1)]

    def trained(layers: nn.ModuleList, optimizers: list[torch.optim.Optimizer], start: int) -> list[Tensor]:
        for step in range(start, start + 3):
            query = torch.randn(2, D, generator=torch.Generator().manual_seed(step))
            layers.zero_grad()
            sum(
                layer(query.to(layer.memory.keys.dtype)).value.float().square().sum() for layer in layers
            ).backward()
            for optimizer in optimizers:
                optimizer.step()
        return [part.detach().clone() for part in layers.parameters()]

    layers, optimizers = made(0)
    trained(layers, optimizers, 0)
    ShardedCheckpoint(tmp_path / "saved", layers, optimizers).save(3)
    again, others = made(1)
    assert ShardedCheckpoint(tmp_path / "saved", again, others).load() == 3
    wanted = trained(layers, optimizers, 3)
    assert len(wanted) == 2
    for one, other in zip(wanted, trained(again, others, 3), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_settings_of_optimizers_come_back(tmp_path: Path) -> None:
    run, other = (Run("rows", [CELLS], Ranks()) for _ in range(2))
    for group in run.optimizers[1].param_groups:
        group["lr"], group["betas"] = torch.tensor(0.25), (0.5, 0.75)
    run.checkpoint(tmp_path / "saved").save(1)
    other.checkpoint(tmp_path / "saved").load()
    group = other.optimizers[1].param_groups[0]
    assert float(group["lr"]) == 0.25 and isinstance(group["lr"], Tensor)
    assert group["betas"] == (0.5, 0.75)
