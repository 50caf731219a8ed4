"""Layers that are compiled whole, exported, and transformed by torch.func read what they read otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap

from hmn.errors import CellError, ConfigError, NonFiniteError, ShapeError
from hmn.nn import EncodedMemory, IndexedMemory, KMIPSAttention, Memory, register_search

N, D, V, B, K = 300, 8, 5, 6, 4
INDEXES = ["exact", "cluster:num_clusters=12,num_probes=6", "hierarchy:num_groups=40,reach=60"]
KINDS = ["fixed", "sparse", "dense"]
every_index = pytest.mark.parametrize("index", INDEXES)
every_memory = pytest.mark.parametrize(
    ("kind", "index"), [*((kind, index) for kind in KINDS for index in INDEXES[:2]), ("dense", INDEXES[2])]
)
# the tracer itself looks at the gradient of a tensor that is no leaf
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),  # PyTorch's own, in jvp and inductor
]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def rows(n: int = B, d: int = D, seed: int = 1) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


class Model(nn.Module):
    """A dense layer before the memory and one behind it."""

    def __init__(self, kind: str = "fixed", index: str = "exact", strategy: str | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        memory = Memory(torch.randn(N, D), torch.randn(N, V), kind != "fixed", sparse=kind == "sparse")
        self.before, self.behind = nn.Linear(D, D), nn.Linear(V, 2)
        self.attention = KMIPSAttention(memory, K, index, strategy)

    def forward(self, x: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        read = self.attention(self.before(x), target)
        return self.behind(read.value), read.weight


def gradients(model: nn.Module, call: Callable[..., Any], *given: Any) -> list[Tensor]:
    """What a call returns, and the gradients of all parameters."""
    model.zero_grad()
    out, weight = call(*given)
    (out.pow(2).sum() + weight[:, 0].sum()).backward()
    return [out, weight, *(p.grad for p in model.parameters() if p.grad is not None)]


def same(got: list[Tensor], wanted: list[Tensor]) -> None:
    assert [part.is_sparse for part in got] == [part.is_sparse for part in wanted]
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.to_dense(), other.to_dense(), rtol=1e-4, atol=1e-4)


@every_memory
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
def test_a_whole_graph_reads_and_learns_the_same(
    kind: str, index: str, training: bool, targeted: bool
) -> None:
    model = Model(kind, index).train(training)
    given = (rows(), torch.arange(B)) if targeted else (rows(),)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    wanted = gradients(model, model, *given)
    same(gradients(model, compiled, *given), wanted)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*given), model(*given))
    with pytest.raises(NonFiniteError, match="query: row 0 holds NaN"):
        compiled(torch.full((B, D), torch.nan), *given[1:])
    if targeted:
        with pytest.raises(CellError, match="target holds cell 300"):
            compiled(given[0], torch.full((B,), N))


@pytest.mark.parametrize("kind", ["fixed", "sparse"])
def test_inductor_compiles_it(kind: str) -> None:
    model = Model(kind, INDEXES[1])
    compiled = torch.compile(model, fullgraph=True)
    same(gradients(model, compiled, rows()), gradients(model, model, rows()))


def test_the_index_follows_a_compiled_training_without_comparing_all_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    compare = IndexedMemory._compare
    monkeypatch.setattr(IndexedMemory, "_compare", lambda self: (compared.append(1), compare(self)))
    weights = []
    for backend in (None, "aot_eager"):
        model = Model("sparse", INDEXES[1])
        call = model if backend is None else torch.compile(model, fullgraph=True, backend=backend)
        sgd = torch.optim.SGD(model.parameters(), lr=0.5)
        model.attention.follow(sgd)
        for step in range(4):
            gradients(model, call, rows(seed=step), torch.arange(B))
            sgd.step()
        with torch.no_grad():
            model.eval()
            torch.testing.assert_close(call(rows())[1], model(rows())[1], rtol=1e-3, atol=1e-5)
        weights.append([weight.detach() for weight in model.parameters()])
    assert compared == []
    # compiled code copies rows, eager code reads them in place: each rounds in its way, and steps add to that
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


def test_one_program_serves_batches_of_any_size() -> None:
    torch._dynamo.utils.counters.clear()
    model = Model().eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (2, 3, 17):
        torch.testing.assert_close(compiled(rows(batch)), model(rows(batch)))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_two_layers_of_one_memory_are_one_graph() -> None:
    indexed = IndexedMemory(Memory(rows(N), trainable=True), INDEXES[1])
    first, second = KMIPSAttention(indexed, K), KMIPSAttention(indexed, 2)

    def model(x: Tensor) -> tuple[Tensor, Tensor]:
        read = second(first(x).value)
        return read.value, read.weight

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    same(gradients(first, compiled, rows()), gradients(first, model, rows()))


def test_what_cannot_be_one_graph_says_where_this_is_described() -> None:
    class Encoder(nn.Module):
        num_cells = N

        def forward(self, cells: Tensor) -> Tensor:
            return rows(N)[cells]

        def all_keys(self) -> Any:
            yield rows(N)

    encoded = EncodedMemory(Encoder())
    encoded.renew()
    for layer in (Model(strategy="k-mips:2").attention, KMIPSAttention(encoded, K)):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=r"docs/attention\.md"):
            torch.compile(layer, fullgraph=True, backend="aot_eager")(rows())
        torch._dynamo.reset()
        torch.manual_seed(3)
        got = torch.compile(layer, backend="aot_eager")(rows())
        torch.manual_seed(3)
        torch.testing.assert_close(got, layer(rows()))


RUNS_ELSEWHERE = """
import sys, torch
from hmn import IndexedMemory, Memory, KMIPSAttention
from hmn.nn import register_search
program = torch.export.load(sys.argv[1])
x = torch.load(sys.argv[2])
try:
    program.module()(x)
except Exception as error:
    print(type(error).__name__, "register_search('elsewhere'" in str(error))
keys = program.state_dict["attention.memory.key_table.weight"]
register_search("elsewhere", IndexedMemory(Memory(keys.detach()), sys.argv[4]))
torch.save(program.module()(x), sys.argv[3])
"""


@every_index
def test_an_exported_program_runs_in_another_process(index: str, tmp_path: Path) -> None:
    model = Model("dense", index).eval()
    register_search("elsewhere", model.attention.indexed)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (rows(),), dynamic_shapes={"x": {0: batch}})
    assert [str(node.target) for node in program.graph.nodes].count("hmn.search.default") == 1
    torch.testing.assert_close(program.module()(rows(9)), model(rows(9)))
    paths = [str(tmp_path / name) for name in ("reader.pt2", "x.pt", "out.pt")]
    torch.export.save(program, paths[0])
    torch.save(rows(11), paths[1])
    command = [sys.executable, "-W", "ignore", "-c", RUNS_ELSEWHERE, *paths, index]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.stdout.split() == ["ConfigError", "True"], ran.stderr
    torch.testing.assert_close(torch.load(paths[2]), model(rows(11)))
    register_search("elsewhere", None)


def test_a_program_that_returns_a_read_is_saved(tmp_path: Path) -> None:
    layer = KMIPSAttention(Memory(rows(N)), K)
    register_search("read", layer.indexed)
    torch.export.save(torch.export.export(layer, (rows(),)), tmp_path / "read.pt2")
    read = torch.export.load(tmp_path / "read.pt2").module()(rows())
    torch.testing.assert_close(read, layer(rows()))
    register_search("read", None)


@pytest.mark.parametrize("strict", [False, True])
def test_a_memory_without_a_name_is_not_exported(strict: bool) -> None:
    with pytest.raises((ConfigError, torch._dynamo.exc.TorchRuntimeError), match=r"nn\.register_search\("):
        torch.export.export(Model(), (rows(),), strict=strict)


@every_memory
def test_torch_func_differentiates_and_maps(kind: str, index: str) -> None:
    model = Model(kind, index)
    many = torch.stack([rows(seed=seed) for seed in range(3)])
    torch.testing.assert_close(vmap(lambda x: model(x)[0])(many), torch.stack([model(x)[0] for x in many]))
    x = rows().requires_grad_()
    model(x)[0].pow(2).sum().backward()
    torch.testing.assert_close(grad(lambda x: model(x)[0].pow(2).sum())(rows()), x.grad)
    single = vmap(grad(lambda x: model(x[None])[0].pow(2).sum()))(rows())  # of each query by itself
    torch.testing.assert_close(single, x.grad)
    jacobian = jacrev(lambda x: model(x)[0])(rows())
    tangent = jvp(lambda x: model(x)[0], (rows(),), (rows(seed=5),))[1]
    torch.testing.assert_close((jacobian * rows(seed=5)).sum(dim=(2, 3)), tangent, rtol=1e-4, atol=1e-4)

    weights = dict(model.named_parameters())
    got = grad(lambda weights: functional_call(model, weights, (rows(),))[0].pow(2).sum())(weights)
    model.zero_grad()
    model(rows())[0].pow(2).sum().backward()
    for name, weight in weights.items():
        assert weight.grad is not None and got[name].is_sparse == weight.grad.is_sparse
        torch.testing.assert_close(got[name].to_dense(), weight.grad.to_dense())


def test_gradients_of_each_query_by_itself() -> None:
    def each(model: Model) -> dict[str, Tensor]:
        weights = {name: weight.detach() for name, weight in model.named_parameters()}

        def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
            total: Tensor = functional_call(model, weights, (x[None],))[0].pow(2).sum()
            return total

        got: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0))(weights, rows())
        return got

    for kind in ("fixed", "dense"):
        model = Model(kind)
        got = each(model)
        for place in range(B):
            model.zero_grad()
            model(rows()[place : place + 1])[0].pow(2).sum().backward()
            for name, weight in model.named_parameters():
                torch.testing.assert_close(got[name][place], weight.grad)
    with pytest.raises(ConfigError, match=r"gradients of this memory, which are sparse.*sparse=False"):
        each(Model("sparse"))


@every_index
def test_functional_call_reads_the_weights_it_is_given(index: str) -> None:
    model, other = Model("dense", index), Model("dense", index)
    with torch.no_grad():
        for weight in other.parameters():
            weight.normal_()
    given = {name: weight.detach().clone() for name, weight in other.named_parameters()}
    torch.testing.assert_close(functional_call(model, given, (rows(),)), other(rows()))
    compiled = torch.compile(
        lambda w, x: functional_call(model, w, (x,)), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(given, rows()), other(rows()))
    torch.testing.assert_close(model(rows()), Model("dense", index)(rows()))


def test_an_ensemble_of_memories_is_refused() -> None:
    models = [Model("dense"), Model("dense")]
    weights, buffers = stack_module_state(models)
    with pytest.raises(ConfigError, match="read each memory of an ensemble in a loop"):
        vmap(lambda w, b, x: functional_call(models[0], (w, b), (x,)), (0, 0, None))(weights, buffers, rows())


@every_memory
def test_a_model_is_made_without_numbers_and_loaded(kind: str, index: str) -> None:
    saved = Model(kind, index).eval()
    with torch.device("meta"):
        empty = Model(kind, index).eval()
        scaled = KMIPSAttention(Memory(torch.randn(9, D)), 2, scale=nn.Parameter(torch.tensor(1.0)))
        with pytest.raises(ShapeError, match=r"keys are \(9,\)"):
            Memory(torch.randn(9))
    assert scaled.scale.is_meta
    with pytest.raises(ConfigError, match=r"keys are on the meta device.*to_empty.*load_state_dict"):
        empty.attention(rows())
    with pytest.raises(ShapeError, match=r"query is on the meta device.*to_empty"):
        empty(rows().to("meta"))
    with pytest.raises(ShapeError, match=r"keys is on the meta device.*to_empty"):
        empty.attention.indexed.rebuild()
    empty.to_empty(device="cpu").load_state_dict(saved.state_dict())
    torch.testing.assert_close(empty(rows()), saved(rows()))
    with torch.device("meta"):
        assigned = Model(kind, index).eval()
    assigned.load_state_dict(saved.state_dict(), assign=True)
    torch.testing.assert_close(assigned(rows()), saved(rows()))


def test_the_profiler_sees_the_search() -> None:
    model = Model()
    model(rows())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model(rows())
    assert [event.count for event in profile.key_averages() if event.key == "hmn::search"] == [1]
