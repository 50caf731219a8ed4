"""A network's weights by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from hmn.errors import ShapeError


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
        ShapeError: names or shapes differ from the network's.
    """
    own = weights_of(network)
    misfits = sorted(own.keys() ^ weights.keys())
    misfits += [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if misfits:
        raise ShapeError(
            f"weights do not fit the network, first {misfits[0]}: make both from the same configuration"
        )
    network.load_state_dict(weights, strict=False, assign=assign)
