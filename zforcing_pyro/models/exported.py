"""Modules of a net that ``torch.export`` and ``torch.onnx`` take."""

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from .base import StochasticRNN
from .steps import State


class PosteriorMean(nn.Module):
    """Means of q(z_t | z before t, x) along a draw of the latents, as a module of x alone.

    Args:
        net: A model with latents; not SAB, whose attention depends on values.
        num_draws: Draws that the means are averaged over.

    Example:
        >>> net, x = VRNN(Bernoulli, 3, z_dim=2, h_dim=4), torch.zeros(5, 6, 3)
        >>> torch.export.export(PosteriorMean(net), (x,), strict=False).module()(x).shape
        torch.Size([5, 6, 2])
    """

    def __init__(self, net: StochasticRNN, num_draws: int = 1):
        super().__init__()
        self.net, self.num_draws = net, num_draws

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Returns means, ``(batch, time, z_dim)``, of sequences without padding."""
        with pyro.validation_enabled(False):  # whose checks depend on values
            return self.net.terms(x, num_particles=self.num_draws).posterior_mean.mean(0)


class GeneratingStep(nn.Module):
    """One step of the generative model, as a module of the state alone.

    Args:
        net: A model; not SAB, whose attention depends on values.

    Example:
        >>> net, nothing = VRNN(Bernoulli, 3, z_dim=2, h_dim=4), torch.full((5, 3), torch.nan)
        >>> x, state = GeneratingStep(net)(net.initial_state(5, nothing))
        >>> x.shape, state["h"].shape
        (torch.Size([5, 3]), torch.Size([5, 4]))
    """

    def __init__(self, net: StochasticRNN):
        super().__init__()
        self.net = net

    @torch.no_grad()
    def forward(self, state: State) -> tuple[Tensor, State]:
        """Draws an observation.

        Args:
            state: :meth:`StochasticRNN.initial_state` with the frame before, of NaN at the start.

        Returns:
            The observation, ``(batch, x_dim)``, or ``(batch,)`` for symbols; and the state after.
        """
        net = self.net
        x = net.emission.template(len(state["x_prev"]), 1, next(net.parameters()))
        with pyro.validation_enabled(False):
            nodes: Any = (
                poutine.trace(poutine.uncondition(net.model)).get_trace(x, None, state).nodes
            )
        new = nodes["_RETURN"]["value"] | {"x_prev": nodes["x_0"]["value"]}
        return new["x_prev"], state | {name: new[name] for name in state.keys() & new.keys()}
