"""One choice of kernels holds for every function, and the environment can make it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

import hmn._native as native
from hmn._native import backend
from hmn._native.level import Level
from hmn.index.storage.coded_lists import Lists


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["twin", "pytorch", "portable", "strange"])
def test_the_environment_chooses(wanted: str) -> None:
    show = "from hmn._native import backend as b; print(b.compiled is None, b.kernels())"
    ran = subprocess.run(
        [sys.executable, "-c", show],
        capture_output=True,
        text=True,
        env={"HMN_KERNELS": wanted, "PYTHONPATH": ":".join(sys.path)},
    )
    if wanted == "strange":
        assert "'strange', expected one of pytorch, twin, " in ran.stderr
    elif wanted == "portable":
        assert ran.stdout.split() == ["False", "portable"]
    else:
        assert ran.stdout.split() == ["True", "twin"]


def test_only_tensors_on_the_cpu_get_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = SimpleNamespace(in_use=lambda: "avx2")
    monkeypatch.setattr(backend, "compiled", compiled)
    assert backend.kernels_for(torch.ones(1)) is compiled
    assert backend.kernels_for(torch.ones(1, device="meta")) is None
    assert native.kernels() == native.kernels(torch.device("cpu")) == "avx2"
    assert native.kernels(torch.device("cuda")) == "twin"
    monkeypatch.setattr(backend, "compiled", None)
    assert backend.kernels_for(torch.ones(1)) is None
    assert native.kernels() == "twin"


def small_level() -> Level:
    """One list of two entries with four features."""
    lists = Lists(4, 8, torch.device("cpu"))
    lists.build(torch.zeros(2).long(), torch.arange(2), torch.eye(2, 4), torch.zeros(1, 1))
    return lists.level


ZERO = torch.zeros(1, dtype=torch.int64)
CALLS: dict[str, Callable[[Level], object]] = {
    "search_levels": lambda level: native.search_levels(
        torch.ones(1, 4), [level], [], [], torch.eye(2, 4), 2, 1
    ),
    "best_of": lambda _: native.best_of(torch.ones(1, 4), torch.eye(2, 4), torch.tensor([[0]]), 1),
    "list_rows": lambda _: native.list_rows(
        ZERO.int(), ZERO.view(1, 1), ZERO.view(1, 1) + 1, ZERO, torch.full((1, 2), -1)
    ),
    "most_frequent": lambda _: native.most_frequent(torch.tensor([[1, 1, 0]]), 1),
    "write_entries": lambda level: native.write_entries(
        level, ZERO, torch.eye(2, 4), ZERO, ZERO, torch.zeros(1, 1)
    ),
    "take_out": lambda level: native.take_out(level, ZERO, ZERO, torch.arange(2)),
    "enter": lambda level: native.enter(level, ZERO + 1, 1, ZERO, ZERO + 2, torch.tensor([0, 1, -1])),
    "means": lambda level: native.means(level, ZERO, torch.eye(2, 4), None),
}


class CompiledError(Exception):
    """A compiled kernel was called."""


class Compiled:
    """Compiled kernels of which none may be called."""

    def level(self, *parts: object) -> object:
        return parts

    def __getattr__(self, name: str) -> object:
        raise CompiledError(name)


@pytest.mark.parametrize("name", CALLS)
def test_every_function_obeys_the_choice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [small_level(), small_level()]
    monkeypatch.setattr(backend, "compiled", Compiled())
    with pytest.raises(CompiledError):
        CALLS[name](levels[0])
    monkeypatch.setattr(backend, "compiled", None)
    CALLS[name](levels[1])


def test_screening_without_compiled_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "compiled", None)
    assert not native.screens() and native.screening_bits() == 8
    with pytest.raises(RuntimeError, match="screens"):
        native.screened(torch.ones(1, 4), small_level(), 1.0, torch.eye(2, 4), 1, 1)


def test_kernels_that_were_not_built_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hmn._native._kernels", None)
    with pytest.warns(RuntimeWarning, match=r"install a C\+\+ compiler"):
        assert backend.load("") is None
    assert backend.load("twin") is None, "no warning where PyTorch is wanted"
