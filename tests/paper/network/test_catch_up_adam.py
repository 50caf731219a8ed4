from __future__ import annotations

import pytest
import torch

from hmn.paper.network.catch_up_adam import CatchUpAdam


@pytest.mark.parametrize("seed", [0, 1])
def test_it_ends_where_adam_on_the_whole_table_ends(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    dense, rows = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    adam, ours = torch.optim.Adam([dense], 0.01), CatchUpAdam(rows, 0.01)
    for step in range(300):
        # row 0 in the first step alone, row 29 never, the others now and then
        touched = torch.randperm(28, generator=generator)[:3] + 1
        touched = torch.cat([touched, torch.zeros(1, dtype=torch.int64)]) if step == 0 else touched
        gradient = torch.randn(len(touched), 4, generator=generator, dtype=torch.float64)
        dense.grad = torch.zeros_like(dense).index_add_(0, touched, gradient)
        ours.catch_up(touched)
        assert torch.allclose(rows[touched], dense[touched], atol=1e-5), "what a step reads is as Adam has it"
        rows.grad = torch.sparse_coo_tensor(touched.unsqueeze(0), gradient, rows.shape, check_invariants=True)
        adam.step()
        ours.step()
    ours.catch_up()
    assert torch.allclose(rows, dense, atol=1e-5)
    assert torch.equal(rows[29], start[29])
    assert not torch.allclose(rows[0], start[0], atol=0.03), "one gradient goes on moving its row"
    ours.catch_up()
    assert torch.allclose(rows, dense, atol=1e-5), "nothing is made up for twice"


def test_a_saved_state_goes_on_the_same() -> None:
    weight = torch.nn.Parameter(torch.zeros(3, 2))
    adam = CatchUpAdam(weight, 0.1)

    def step(optimiser: CatchUpAdam, row: int) -> None:
        optimiser.catch_up(torch.tensor([row]))
        optimiser.weight.grad = torch.sparse_coo_tensor(
            torch.tensor([[row]]), torch.ones(1, 2), (3, 2), check_invariants=True
        )
        optimiser.step()

    step(adam, 0)
    step(adam, 1)
    copy = torch.nn.Parameter(weight.detach().clone())
    again = CatchUpAdam(copy, 0.1)
    again.load({name: value.clone() for name, value in adam.state().items()})
    for one in (adam, again):
        step(one, 2)
        one.catch_up()
    assert torch.equal(weight, copy)
    assert float(copy.detach()[0, 0]) < -0.15


def test_the_tabulated_distance_is_the_sum_of_adams_movements() -> None:
    adam = CatchUpAdam(torch.nn.Parameter(torch.zeros(1, 1)), 0.1)
    for steps, last, missed in ((9, 2, 7), (9, 8, 1), (2000, 5, 1995), (2000, 1990, 10)):
        adam.steps = steps
        movements = [
            (0.9 / 0.999**0.5) ** ago * (1 - 0.999 ** (last + ago)) ** 0.5 / (1 - 0.9 ** (last + ago))
            for ago in range(1, missed + 1)
        ]
        found = adam._distance(torch.tensor([last]), torch.tensor([missed]))
        assert float(found) == pytest.approx(sum(movements), rel=1e-12)
