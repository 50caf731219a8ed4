"""What a training run over ranks consists of: rows that are shared out, and what every rank has alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hmn.distributed.sharded_memory import ShardedCells
from hmn.errors import ConfigError, NotFittedError, ShapeError
from hmn.nn.memory.encoded import EncodedMemory
from hmn.nn.memory.stored import Memory

NO_OPTIMIZER = -1
"""Number in place of an optimiser's: an encoded memory remembers its keys itself."""


class RowState(NamedTuple):
    """Which entry of an optimiser's state: one that concerns a table of cells.

    Attributes:
        optimizer: number of the optimiser; ``NO_OPTIMIZER`` for the snapshot of encoded cells.
        name: name of the table in the model.
        entry: name that the optimiser gives the entry, such as ``exp_avg``.
    """

    optimizer: int
    name: str
    entry: str


class TrainingState:
    """A model with memories over ranks and its optimisers, taken apart for a checkpoint and put together.

    Args:
        model: the model, perhaps wrapped in ``DistributedDataParallel``.
        optimizers: optimisers of its parameters.

    Attributes:
        memories: the memories over ranks, by their names in the model, which end with a dot.

    Raises:
        ConfigError: an optimiser trains a parameter that the model lacks, or one of them is something else.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model is {type(model).__name__}, expected the torch.nn.Module to train")
        for number, optimizer in enumerate(optimizers):
            if not isinstance(optimizer, Optimizer):
                raise ConfigError(
                    f"optimizer {number} is {type(optimizer).__name__}, expected optimizers of torch.optim"
                )
        self.model: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
        self.optimizers = list(optimizers)
        self.memories: dict[str, ShardedCells] = {}
        self._own: set[str] = set()  # names of what concerns this rank alone, as often as a memory occurs
        for name, part in self.model.named_modules(remove_duplicate=False):
            if isinstance(part, ShardedCells):
                prefix = f"{name}." if name else ""
                stored = isinstance(part.shard, Memory)
                weights = part.named_parameters(remove_duplicate=False)
                encoders = set() if stored else {title for title, _ in weights}
                self._own |= {f"{prefix}{title}" for title in part.state_dict() if title not in encoders}
                if all(part is not known for known in self.memories.values()):
                    self.memories[prefix] = part
        self._names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for number, optimizer in enumerate(self.optimizers):
            for parameter in _parameters(optimizer):
                if id(parameter) not in self._names:
                    raise ConfigError(
                        f"optimizer {number} ({type(optimizer).__name__}) trains a parameter of shape "
                        f"{tuple(parameter.shape)} that is not in the model, expected the model's own: give "
                        "the checkpoint the model that holds all that is trained"
                    )

    def tables(self, memory: str) -> dict[str, Tensor]:
        """The tables ``(n, ...)`` of this rank's stored cells, by name: the tensors themselves."""
        cells = self.memories[memory]
        tables = cells.state_dict() if isinstance(cells.shard, Memory) else {}
        return {f"{memory}{name}": table.detach() for name, table in tables.items()}

    def row_state(self, memory: str) -> tuple[dict[RowState, Tensor], dict[RowState, Any]]:
        """What the optimisers remember of this rank's cells, and the snapshot of encoded ones.

        Returns:
            Tables ``(n, ...)`` with a row per cell, sparse ones coalesced; and all other entries.

        Raises:
            ConfigError: an entry is a tensor without a row per cell.
        """
        rows: dict[RowState, Tensor] = {}
        others: dict[RowState, Any] = {}
        shard = self.memories[memory].shard
        if isinstance(shard, EncodedMemory):
            with suppress(NotFittedError):  # nothing has searched it yet
                rows[RowState(NO_OPTIMIZER, memory, "snapshot")] = shard.snapshot()
        for number, name, parameter, state in self._remembered():
            if not name.startswith(memory) or self._is_replicated(name):
                continue
            for entry, value in state.items():
                what = RowState(number, name, entry)
                if not isinstance(value, Tensor) or value.dim() == 0:
                    others[what] = value
                elif value.dim() == parameter.dim() and len(value) == len(parameter):
                    rows[what] = value.coalesce() if value.is_sparse else value
                else:
                    raise ConfigError(
                        f"{entry} of {name} is {tuple(value.shape)} for {len(parameter)} cells, expected a "
                        "row per cell: train cells with an optimiser that treats each by itself, such as "
                        "hmn.nn.RowAdam"
                    )
        return rows, others

    def index_state(self, memory: str) -> dict[str, Tensor]:
        """The indexes of this rank's cells of a memory, without the keys; nothing if none is built."""
        state: dict[str, Tensor] = {}
        for place, indexed in enumerate(self.memories[memory].indexed):
            if indexed.index.has_structure and len(indexed.index):
                tensors = indexed.in_step().state_dict(with_keys=False)
                state |= {f"{place}/{name}": tensor for name, tensor in tensors.items()}
        return state

    def load_index(self, memory: str, state: Mapping[str, Tensor]) -> None:
        """Take back what ``index_state`` gave, after ``load``. An index of other settings is built again."""
        for place, indexed in enumerate(self.memories[memory].indexed):
            prefix = f"{place}/"
            own = {
                name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)
            }
            if own and indexed.index.has_structure:
                with suppress(ShapeError):
                    indexed.load_index(own)

    def replicated(self) -> dict[str, Any]:
        """What every rank has alike: parameters and buffers, settings of optimisers, what they remember.

        Raises:
            ConfigError: a parameter is a DTensor, as of FSDP.
        """
        model = self._replicated_tensors()
        for name, value in model.items():
            if hasattr(value, "device_mesh"):
                raise ConfigError(
                    f"{name} is a DTensor, expected a plain tensor, the same on every rank: wrap the model "
                    "in DistributedDataParallel, not in FSDP"
                )
        state: list[dict[str, Any]] = [{} for _ in self.optimizers]
        for number, name, _, entries in self._remembered():
            if self._is_replicated(name):
                state[number][name] = entries
        return {"model": model, "optimizers": self._settings(), "state": state}

    def check(self, saved: Mapping[str, Any]) -> None:
        """Refuse what ``replicated`` gave of another model, or with other optimisers.

        Raises:
            ConfigError: says what differs.
        """
        own, settings = self._replicated_tensors(), self._settings()
        if odd := sorted(own.keys() ^ saved["model"].keys()):
            where = "checkpoint" if odd[0] in own else "model"
            raise ConfigError(f"the {where} has no {odd[0]!r:.100}")
        for name, value in own.items():
            got, wanted = (
                f"{tuple(part.shape)} of {part.dtype}" if isinstance(part, Tensor) else type(part).__name__
                for part in (saved["model"][name], value)
            )
            if got != wanted:
                raise ConfigError(f"{name} is {got}, the model's {wanted}")
        if len(saved["optimizers"]) != len(settings):
            raise ConfigError(f"it has {len(saved['optimizers'])} optimizers, the run {len(settings)}")
        for number, (one, other) in enumerate(zip(saved["optimizers"], settings, strict=True)):
            for field in ("kind", "names"):
                if one[field] != other[field]:
                    raise ConfigError(
                        f"optimizer {number} has {field} {one[field]!r:.150}, the run {other[field]!r:.150}"
                    )

    def load(self, saved: Mapping[str, Any], row_state: Mapping[RowState, Any]) -> None:
        """Take back what ``replicated`` gave, and what the optimisers remember of this rank's cells."""
        self.model.load_state_dict(saved["model"], strict=False)
        for number, optimizer in enumerate(self.optimizers):
            place = {self._names[id(parameter)]: n for n, parameter in enumerate(_parameters(optimizer))}
            settings = saved["optimizers"][number]
            groups = [
                {**group, "params": [place[name] for name in names]}
                for group, names in zip(settings["groups"], settings["names"], strict=True)
            ]
            state = {place[name]: entries for name, entries in saved["state"][number].items()}
            for what, value in row_state.items():
                if what.optimizer == number:
                    state.setdefault(place[what.name], {})[what.entry] = value
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        for what, value in row_state.items():
            shard = self.memories[what.name].shard if what.optimizer == NO_OPTIMIZER else None
            if isinstance(shard, EncodedMemory):
                shard.restore(value)

    def _remembered(self) -> Iterator[tuple[int, str, Tensor, dict[str, Any]]]:
        """What each optimiser remembers: its number, the parameter's name, the parameter, the entries."""
        for number, optimizer in enumerate(self.optimizers):
            parameters, state = _parameters(optimizer), optimizer.state_dict()["state"]
            for place, entries in state.items():
                yield number, self._names[id(parameters[place])], parameters[place], entries

    def _settings(self) -> list[dict[str, Any]]:
        """Kind of each optimiser, the names of its parameters by group, and the settings of each group."""
        return [
            {
                "kind": type(optimizer).__name__,
                "names": [[self._names[id(part)] for part in group["params"]] for group in groups],
                "groups": [
                    {name: part for name, part in group.items() if name != "params"} for group in groups
                ],
            }
            for optimizer in self.optimizers
            for groups in [optimizer.param_groups]
        ]

    def _replicated_tensors(self) -> dict[str, Any]:
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if self._is_replicated(name)}

    def _is_replicated(self, name: str) -> bool:
        return name not in self._own


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimiser, in the order in which its state numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
