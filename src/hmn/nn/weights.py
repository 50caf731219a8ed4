"""A network's weights by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hmn.errors import ShapeError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Types of floating-point numbers that weights may have."""


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network, each tensor once even where two of its parts share a module."""
    once = {name for name, _ in network.named_parameters()} | {name for name, _ in network.named_buffers()}
    return {name: value for name, value in network.state_dict().items() if name in once}


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Take back what ``weights_of`` gave.

    Args:
        network: a network of the same architecture.
        weights: tensors by name.
        assign: take the tensors themselves instead of copying them.

    Raises:
        ShapeError: names or shapes differ from the network's, or types are mixed.
    """
    own = weights_of(network)
    misfits = [f"{name} is missing" for name in sorted(own.keys() - weights.keys())]
    misfits += [f"there is no {name:.80}" for name in sorted(weights.keys() - own.keys())]
    # a network may be saved in another type than it is loaded into, but in one: its parts compute together
    common = next((weights[name].dtype for name, _ in network.named_parameters() if name in weights), None)
    misfits += [
        f"{name} is {_described(weights[name])}, expected {_described(value)}"
        for name, value in sorted(own.items())
        if name in weights and not _fits(weights[name], value, common)
    ]
    if misfits:
        raise ShapeError(
            f"the weights do not fit the network: {'; '.join(misfits[:3])}: make both from the same "
            "configuration"
        )
    network.load_state_dict(weights, strict=False, assign=assign)


def _fits(weight: Tensor, own: Tensor, common: torch.dtype | None) -> bool:
    """Whether a saved tensor may take the place of the network's own."""
    if weight.shape != own.shape:
        return False
    if not own.is_floating_point():
        return weight.dtype == own.dtype
    # vectors of texts are kept in float16 whatever the type of the network
    return weight.dtype in FLOATS and weight.dtype in {common, own.dtype} & {common, torch.float16}


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"
