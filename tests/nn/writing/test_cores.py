"""Cores against PyTorch's own layers over whole sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hmn.errors import ConfigError
from hmn.nn.writing.cores import RecurrentCore, TransformerCore, WindowCore


def outputs(core: nn.Module, inputs: Tensor, cut: int = -1) -> Tensor:
    core.begin()  # type: ignore[operator]
    made = []
    for step, now in enumerate(inputs.unbind(1)):
        if step == cut:
            core.cut()  # type: ignore[operator]
        made.append(core(now))
    return torch.stack(made, dim=1)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_cores_are_those_of_pytorch(kind: str) -> None:
    torch.manual_seed(0)
    core = RecurrentCore(3, 5, kind)
    whole = (nn.LSTM if kind == "lstm" else nn.GRU)(3, 5, batch_first=True)
    whole.load_state_dict({f"{name}_l0": part for name, part in core.cell.state_dict().items()})
    inputs = torch.randn(2, 7, 3)
    torch.testing.assert_close(outputs(core, inputs), whole(inputs)[0])
    torch.testing.assert_close(outputs(core, inputs), whole(inputs)[0])  # it begins again


def test_a_window_is_the_last_inputs_side_by_side() -> None:
    torch.manual_seed(0)
    core, inputs = WindowCore(3, 5, window=3), torch.randn(2, 7, 3)
    earlier = nn.functional.pad(inputs, (0, 0, 2, 0))  # zeros before the first
    wide = torch.cat([earlier[:, 2:], earlier[:, 1:-1], earlier[:, :-2]], dim=2)  # the newest first
    for _ in range(2):  # it begins again
        torch.testing.assert_close(outputs(core, inputs), core.layers(wide))


def test_the_block_is_that_of_whole_sequences() -> None:
    torch.manual_seed(0)
    core = TransformerCore(3, 8, heads=2, window=4)
    nn.init.normal_(core.distance)
    inputs = torch.randn(2, 9, 3)
    embedded = core.embed(inputs)
    query, key, value = core.attended(core.before(embedded)).unflatten(2, (3, 2, 4)).unbind(2)
    back = torch.arange(9).unsqueeze(1) - torch.arange(9)
    seen = (back >= 0) & (back < 4)
    bias = core.distance[:, back.clamp(0, 3)].masked_fill(~seen, -torch.inf)
    heads = (part.transpose(1, 2) for part in (query, key, value))
    read = nn.functional.scaled_dot_product_attention(*heads, attn_mask=bias).transpose(1, 2).flatten(2)
    joined = embedded + core.joined(read)
    expected = core.after(joined + core.wide(core.between(joined)))
    torch.testing.assert_close(outputs(core, inputs), expected)


@pytest.mark.parametrize(
    "core", [RecurrentCore(3, 4, "gru"), RecurrentCore(3, 4), TransformerCore(3, 4), WindowCore(3, 4)]
)
def test_a_cut_ends_gradients(core: nn.Module) -> None:
    inputs = torch.randn(1, 6, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(outputs(core, inputs, cut=3)[:, -1].cos().sum(), inputs)
    assert not bool(gradient[:, :3].any()) and bool(gradient[:, 3:].any())
    (gradient,) = torch.autograd.grad(outputs(core, inputs)[:, -1].cos().sum(), inputs)
    assert bool(gradient[:, :3].any())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind is 'rnn'"):
        RecurrentCore(3, 4, "rnn")
    with pytest.raises(ConfigError, match="hidden is 6 for 4 heads"):
        TransformerCore(3, 6)
