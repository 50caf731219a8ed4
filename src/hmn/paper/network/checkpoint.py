"""Keeps an unfinished run after every epoch, and a finished network for later tests."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmn.paper.network.build import Network
from hmn.paper.network.catch_up_adam import CatchUpAdam
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle
from hmn.store.contents import fitting, record_of, tensor_like

BEST = "best.safetensors"
"""Name of the file of the best epoch's words."""
STATE = "state.safetensors"
"""Name of the file of words, optimiser and attention."""
PROGRESS = "progress.json"
"""Name of the file of ``Progress``."""


@dataclass
class Progress:
    """Where training stands at the end of an epoch."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    """Figures of each finished epoch: the curve."""
    build_seconds: float = 0.0
    """Seconds of building the search structure, in the process that began."""
    peak_mib: float = 0.0
    """Peak memory of all processes up to now."""
    accelerator_peak_mib: float | None = None
    """Peak memory of the accelerator in all processes up to now."""
    steps: int = 0
    """Steps of all epochs."""
    step_seconds: float = 0.0
    """Seconds of all steps."""
    candidates: float = 0.0
    """Sum of the softmax sizes of all steps."""
    best_epoch: int = 0
    """Number of the best epoch, from 1."""
    best: float = -1.0
    """Validation accuracy of the best epoch."""


@dataclass(frozen=True)
class _BestEpoch:
    best_epoch: int


def keep_run(
    folder: Path, progress: Progress, network: Network, optimiser: CatchUpAdam, best: Tensor | None
) -> None:
    """Keep the whole state of a run after an epoch.

    Args:
        folder: replaced as a whole.
        progress: where training stands.
        network: its words and its attention.
        optimiser: of the words.
        best: ``(rows, D)`` words of the best epoch, if this was it; otherwise those kept before remain.
    """
    state = {f"adam.{name}": value for name, value in optimiser.state().items()}
    state |= {f"reading.{name}": value for name, value in network.attention.state().items()}
    with writing_bundle(folder) as bundle:
        write_json(bundle, PROGRESS, dict(vars(progress)))
        write_tensors(bundle, STATE, {"words": network.words.bag.weight.detach(), **state})
        if best is not None:
            write_tensors(bundle, BEST, {"words": best})
        else:
            _link(BundleReader(folder).file(BEST), bundle / BEST)


def resume_run(folder: Path, network: Network, optimiser: CatchUpAdam) -> tuple[Progress, Tensor]:
    """Load a run that was kept: where training stands, and the words ``(rows, D)`` of the best epoch.

    Raises:
        BundleError: it is not whole, or was kept for another network.
    """
    saved = BundleReader(folder)
    with fitting(saved.file(PROGRESS)):
        progress = record_of(Progress, saved.json(PROGRESS))
    with fitting(saved.file(STATE)):
        tensors = saved.tensors(STATE, finite=True)
        _load_words(network, tensors)
        optimiser.load(_part(tensors, "adam."))
        if optimiser.steps != progress.steps:
            raise ValueError(f"{optimiser.steps} steps, expected the {progress.steps} of {PROGRESS}")
        network.attention.load(_part(tensors, "reading."))
    with fitting(saved.file(BEST)):
        best = tensor_like(saved.tensors(BEST, finite=True), "words", network.words.bag.weight.cpu())
    return progress, best.to(network.memory.keys.device)


def _load_words(network: Network, tensors: dict[str, Tensor]) -> None:
    weight = network.words.bag.weight
    with torch.no_grad():
        weight.copy_(tensor_like(tensors, "words", weight))


def keep_network(folder: Path, network: Network, best: Tensor, best_epoch: int) -> None:
    """Keep the words ``(rows, D)`` of the best epoch, and the settings that their cells follow from."""
    about = {
        "row": asdict(network.row),
        "preset": asdict(network.preset),
        "seed": network.seed,
        "best_epoch": best_epoch,
    }
    with writing_bundle(folder) as bundle:
        write_json(bundle, "network.json", about)
        write_tensors(bundle, "words.safetensors", {"words": best})


def load_network(folder: Path, network: Network) -> int:
    """Load the words of a finished network; the number of its best epoch.

    Raises:
        BundleError: none is kept, or it is not whole.
    """
    saved = BundleReader(folder)
    file = saved.file("words.safetensors")
    with fitting(file):
        _load_words(network, saved.tensors(file.name, finite=True))
    file = saved.file("network.json")
    with fitting(file):
        return record_of(_BestEpoch, {"best_epoch": saved.json(file.name)["best_epoch"]}).best_epoch


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _link(file: Path, name: Path) -> None:
    """Give a file another name, or copy it where the disk has no links."""
    try:
        name.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, name)
