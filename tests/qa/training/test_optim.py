"""Row-wise Adam moves as PyTorch's own; the state of the optimisers survives a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hmn.nn.row_adam import RowAdam
from hmn.qa.config import TrainConfig
from hmn.qa.training.optim import Optimisers

ROWS, FEATURES = 12, 3


def sparse(generator: torch.Generator, picks: int) -> Tensor:
    """A sparse gradient, uncoalesced, in which rows may come several times."""
    rows = torch.randint(ROWS, (1, picks), generator=generator)
    values = torch.randn(picks, FEATURES, generator=generator)
    return torch.sparse_coo_tensor(rows, values, (ROWS, FEATURES), check_invariants=True)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.7)])
@pytest.mark.parametrize("eps", [1e-8, 1e-12])
def test_row_adam_is_sparse_adam(betas: tuple[float, float], eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(ROWS, FEATURES, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = RowAdam([ours], lr=0.05, betas=betas, eps=eps)
    reference = torch.optim.SparseAdam([theirs], lr=0.05, betas=betas, eps=eps)
    for picks in (1, 5, 30, 0, 4, 30, 2):
        ours.grad = sparse(generator, picks)
        theirs.grad = ours.grad.clone()
        before = ours.detach().clone()
        mine.step()
        reference.step()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        untouched = sorted(set(range(ROWS)) - set(ours.grad.coalesce().indices()[0].tolist()))
        assert torch.equal(ours.detach()[untouched], before[untouched])


def test_row_adam_is_adam_where_every_row_has_a_gradient() -> None:
    """Also where gradients are as small as eps, in which SparseAdam differs."""
    generator = torch.Generator().manual_seed(1)
    ours, theirs = nn.Parameter(torch.zeros(ROWS, FEATURES)), nn.Parameter(torch.zeros(ROWS, FEATURES))
    mine, reference = RowAdam([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1)
    for _ in range(5):
        theirs.grad = 1e-8 * torch.randn(ROWS, FEATURES, generator=generator)
        ours.grad = theirs.grad.to_sparse(1)
        mine.step()
        reference.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_table_without_a_gradient_stays() -> None:
    table = nn.Parameter(torch.ones(ROWS, FEATURES))
    RowAdam([table], lr=1.0).step()
    assert bool((table == 1).all())


class WordTable(nn.Module):
    """A table that is itself a parameter, as that of the model's cell encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Parameter(torch.randn(ROWS, FEATURES))

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.embedding(rows, self.word, sparse=True)


class Network(nn.Module):
    """One parameter for each kind of learning rate, named as the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, FEATURES, sparse=True)
        self.encoder = WordTable()
        self.phrasing = nn.ModuleDict({"pretrained": nn.Linear(FEATURES, FEATURES)})
        self.out = nn.Linear(FEATURES, 1)

    def forward(self, rows: Tensor) -> Tensor:
        both = self.phrasing["pretrained"](self.table(rows) + self.encoder(rows))
        return torch.as_tensor(self.out(both).square().sum())


def trained(network: Network, optimisers: Optimisers, steps: range) -> None:
    for step in steps:
        rows = torch.randint(ROWS, (8,), generator=torch.Generator().manual_seed(step))
        network(rows).backward()
        optimisers.step(step)


def fresh(config: TrainConfig) -> tuple[Network, Optimisers]:
    torch.manual_seed(0)
    network = Network()
    return network, Optimisers(network, config, 40, sparse=True)


def test_training_goes_on_from_a_saved_state_to_the_same_bit() -> None:
    config = TrainConfig(warmup=5)
    whole, optimisers = fresh(config)
    trained(whole, optimisers, range(20))

    first, optimisers = fresh(config)
    trained(first, optimisers, range(9))
    saved = {name: value.clone() for name, value in optimisers.state().items()}
    weights = {name: value.clone() for name, value in first.state_dict().items()}
    trained(first, optimisers, range(9, 12))
    second, optimisers = fresh(config)
    second.load_state_dict(weights)
    optimisers.load(saved)
    trained(second, optimisers, range(9, 20))
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_the_state_is_plain_tensors_by_parameter() -> None:
    network, optimisers = fresh(TrainConfig())
    assert optimisers.state() == {}
    trained(network, optimisers, range(2))
    state = optimisers.state()
    names = {name for name, _ in network.named_parameters()}
    assert {key.split("|")[0] for key in state} == names
    assert all(type(value) is Tensor for value in state.values())
    assert float(state["table.weight|step"]) == float(state["out.bias|step"]) == 2


def test_the_state_holds_the_rows_of_tables_that_were_touched() -> None:
    network, optimisers = fresh(TrainConfig())
    network(torch.tensor([2, 7])).backward()
    optimisers.step(0)
    state = optimisers.state()
    for table in ("table.weight", "encoder.word"):
        for moment in ("exp_avg", "exp_avg_sq"):
            assert state[f"{table}|{moment}|rows"].tolist() == [2, 7]
            assert state[f"{table}|{moment}|values"].shape == (2, FEATURES)
    damaged = {**state, "table.weight|exp_avg|rows": torch.tensor([2, ROWS])}
    with pytest.raises(ValueError, match=r"table\.weight\|exp_avg\|rows holds 2 to 12"):
        fresh(TrainConfig())[1].load(damaged)


def test_each_part_has_its_own_learning_rate() -> None:
    """Adam's first step is the learning rate along the sign of the gradient."""
    rates = {"table.weight": 1e-3, "encoder.word": 2e-2, "out.weight": 2e-2, "phrasing.pretrained.bias": 5e-5}
    network, optimisers = fresh(
        TrainConfig(warmup=1, table_learning_rate=1e-3, learning_rate=2e-2, encoder_learning_rate=5e-5)
    )
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    trained(network, optimisers, range(1))
    assert all(weight.grad is None for weight in network.parameters())
    for name, rate in rates.items():
        moved = (network.get_parameter(name).detach() - before[name]).abs()
        torch.testing.assert_close(
            moved[moved > 0], torch.full_like(moved[moved > 0], rate), rtol=1e-2, atol=0
        )


@pytest.mark.parametrize(
    ("step", "wanted"),
    [(0, 0.1), (4, 0.5 * 0.96), (9, 0.91), (10, 0.90), (50, 0.5), (99, 0.01), (100, 0.01), (1000, 0.01)],
)
def test_the_rate_rises_in_the_warm_up_and_falls_in_a_line(step: int, wanted: float) -> None:
    optimisers = Optimisers(nn.Linear(1, 1), TrainConfig(warmup=10), 100, sparse=False)
    assert optimisers.share(step) == pytest.approx(wanted)


def test_no_warm_up_begins_at_the_peak() -> None:
    assert Optimisers(nn.Linear(1, 1), TrainConfig(warmup=0), 100, sparse=False).share(0) == 1.0


def test_an_encoder_with_the_rate_0_stays_as_it_is_and_gets_no_gradient() -> None:
    network, optimisers = fresh(TrainConfig(encoder_learning_rate=0.0))
    frozen = network.phrasing["pretrained"]
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    network(torch.arange(ROWS)).backward()
    assert all(weight.grad is None for weight in frozen.parameters())
    optimisers.step(0)
    changed = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if "pretrained" not in name}
