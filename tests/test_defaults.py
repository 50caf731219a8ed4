"""PyTorch's default dtype and device are the caller's: no structure, kernel or layer may depend on them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.index.reference import clustered, listed
from torch import Tensor

import hmn
from hmn._native import backend
from hmn.index.protocol import Clustered, Teachable
from hmn.index.registry import make_index
from hmn.index.tuning import tune
from hmn.nn.attention.hard import HardAttention
from hmn.nn.attention.kmips import KMIPSAttention
from hmn.nn.attention.softmax import SoftmaxAttention
from hmn.nn.memory.stored import Memory

SOURCE = Path(hmn.__file__).parent
ROOMS = ("_native", "index", "nn")
DEVICE_ONLY = {"arange", "randint", "randperm"}
"""Functions whose result is int64, whatever the default dtype."""
BOTH = {
    "as_tensor",
    "asarray",
    "empty",
    "eye",
    "full",
    "linspace",
    "ones",
    "rand",
    "randn",
    "tensor",
    "zeros",
}
"""Functions whose result has the default dtype, or that of Python numbers."""

INDEXES = [
    "exact",
    "cluster:num_clusters=20,num_probes=4,rescore=30",
    "cluster:num_clusters=3x9,num_probes=2x4,codes=int8,reduction=one-column",
    "cluster:num_clusters=9,num_probes=2,codes=none,reduction=paper",
    "hierarchy:num_groups=30,rescore=40",
    "wta-hash:num_tables=4,num_permutations=2,prefix=2,max_candidates=100",
    "pca-tree:leaf_size=30,num_leaves=3",
    "faiss:IVF4,Flat,num_probes=2",
]
LAYERS = {"exact": ["k-mips:4+rand-block:16"], "cluster": ["k-mips:4", "top-k:2+sample-k:2+rand-block:16"]}
"""Strategies of training, by the index below."""
DEFAULTS = ["bfloat16", "float16", "float64", "meta"]


@contextmanager
def default(name: str) -> Iterator[None]:
    """A default dtype, or a default device."""
    before = torch.get_default_dtype()
    if name == "meta":
        with torch.device("meta"):
            yield
        return
    try:
        torch.set_default_dtype(getattr(torch, name))
        yield
    finally:
        torch.set_default_dtype(before)


def life_of_an_index(name: str) -> list[Tensor]:
    """All that an index returns and holds while it is built, asked, changed, taught, saved and tuned."""
    keys, query, more = data()
    cells = range_of(len(keys))
    index = make_index(name)
    index.build(keys[:600])
    returned = [*index.search(query, 5), *index.search(query[:1], 700)]
    index.add(cells[600:], keys[600:])
    index.remove(cells[40:90])
    index.update(cells[100:160], more)
    returned += index.search(query, 5)
    if isinstance(index, Teachable):
        index.learn(query, index.search(query, 1).cell[:, 0])
        returned += index.search(query, 5)
    if isinstance(index, Clustered):
        returned += [index.centroids(), *index.cells_in(range_of(3))]
    state = index.state_dict()
    returned += [state[name] for name in sorted(state)]
    again = make_index(name)
    again.load_state_dict(state)
    returned += again.search(query, 5)
    if not name.startswith("exact"):
        tuned = tune(again, query, 5, target_recall=0.8)
        returned += [torch.tensor([tuned.recall, tuned.reads], dtype=torch.float64, device="cpu")]
    return returned


def life_of_a_layer(name: str, strategy: str | None) -> list[Tensor]:
    """What attention returns in training and afterwards, and its gradients."""
    keys, query, _ = data()
    memory = Memory(keys.clone(), keys[:, :5].clone(), trainable=True)
    layer = KMIPSAttention(memory, 4, index=make_index(name), strategy=strategy)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    returned: list[Tensor] = []
    for _ in range(2):
        optimizer.zero_grad()
        asked = query[:7].clone().requires_grad_()
        read = layer(asked, range_of(7))
        assert read.value is not None and asked.grad is None
        read.value.square().sum().backward()
        returned += [*read, asked.grad, memory.keys.grad]  # type: ignore[list-item]
        optimizer.step()
        layer.refresh()
    layer.eval()
    return [part.detach() for part in [*returned, *layer(query)]]


def lives_of_other_layers() -> list[Tensor]:
    keys, query, _ = data()
    memory = Memory(keys.clone(), trainable=True)
    hard = HardAttention(memory)
    returned: list[Tensor] = []
    for _ in range(3):
        read = hard(query)
        returned += [*read, hard.loss(read, read.score[:, 0].detach())]
    returned += [*SoftmaxAttention(memory)(query), *hard.state_dict().values()]
    return [part.detach() for part in returned]


@cache
def data() -> tuple[Tensor, Tensor, Tensor]:
    """700 keys, 30 queries, and 60 other keys."""
    keys, query = clustered(1, 700, 30, 12)
    return keys, query, clustered(2, 60, 1, 12)[0]


@cache
def range_of(count: int) -> Tensor:
    return torch.arange(count)


CASES = {name: (life_of_an_index, name) for name in INDEXES}
CASES |= {
    f"layer over {name}, {strategy}": (life_of_a_layer, name, strategy)
    for name, strategies in LAYERS.items()
    for strategy in [None, *strategies]
}
CASES |= {"other layers": (lives_of_other_layers,)}


def lived(case: str) -> list[Tensor]:
    """What a life returns when its random draws, which follow PyTorch's generator, are those of seed 0."""
    life, *arguments = CASES[case]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return life(*arguments)


@cache
def as_usual(case: str, kernels: str) -> list[Tensor]:  # noqa: ARG001
    return lived(case)


def unspecified(text: str) -> Iterator[tuple[int, str]]:
    """Line and call of each tensor that is made without a dtype or a device."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, node.func.value
        if not isinstance(owner, ast.Name) or owner.id != "torch" or name not in DEVICE_ONLY | BOTH:
            continue
        needed = {"device"} if name in DEVICE_ONLY else {"device", "dtype"}
        if not needed <= {keyword.arg for keyword in node.keywords}:
            yield node.lineno, ast.unparse(node)


def test_every_tensor_is_made_with_a_dtype_and_a_device() -> None:
    """A tensor without them is float16 or on another device where the caller's defaults say so."""
    assert list(unspecified("torch.zeros(3)\ntorch.arange(3)\ntorch.arange(3, device=x)")) == [
        (1, "torch.zeros(3)"),
        (2, "torch.arange(3)"),
    ]
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {call}"
        for room in ROOMS
        for path in sorted((SOURCE / room).rglob("*.py"))
        for line, call in unspecified(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("kernels", ["compiled", "pytorch"])
@pytest.mark.parametrize("case", listed(list(CASES)))
@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_change_nothing(name: str, case: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is equal, bit by bit, to what float32 and the CPU give as defaults."""
    if kernels == "pytorch":
        monkeypatch.setattr(backend, "compiled", None)
    data(), [range_of(count) for count in (3, 7, 700)]
    expected = as_usual(case, kernels)
    with default(name):
        got = lived(case)
    assert len(got) == len(expected)
    for number, (part, wanted) in enumerate(zip(got, expected, strict=True)):
        assert part.dtype == wanted.dtype and part.device == wanted.device, f"tensor {number}"
        if part.is_sparse:
            part, wanted = part.to_dense(), wanted.to_dense()
        assert part.numpy().tobytes() == wanted.numpy().tobytes(), f"tensor {number}"
