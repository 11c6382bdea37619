"""A twist: how much better a particle explains what is yet to come, from the backward state."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..data.checks import MAX_SIZE, check_choice, check_range
from ..emissions import DiagNormal
from ..layers.blocks import MLP, concat, embedding
from ..layers.lstm import BackwardLSTM
from .steps import SequenceBatch

Form = Literal["mlp", "quadratic", "gaussian"]


class Twist(nn.Module):
    r"""A network for :math:`\log r_t = f(h_t, b_{t+1}) \approx \log p(x_{t+1:T} \mid z_{\le t})`.

    h_t is all of a particle's state after step t. A net without a backward state has one of the
    twist's own. Before it is trained, f is 0, but for a Gaussian. A factor of r that all particles
    share cancels in the bound.

    Args:
        net: The model, a :class:`StochasticRNN`.
        form: A network of both, a quadratic function of h_t with coefficients from b_{t+1}, or the
            Gaussian log p(b_{t+1} | h_t).
        hidden_dim: Size of the two hidden layers, and of an own backward state.

    Raises:
        ValueError: If a Gaussian has no backward state of the net to predict.
    """

    def __init__(self, net: Any, form: Form = "mlp", hidden_dim: int = 64):
        super().__init__()
        check_choice(Form, form=form)
        check_range(1, MAX_SIZE, hidden_dim=hidden_dim)
        self.form, self.hidden_dim = form, hidden_dim
        h_dim, hidden_dims = sum(net.state_dims[n] for n in net.particle_names), [hidden_dim] * 2
        self.embed = self.reader = None
        if net.backward_entry is not None:
            b_dim = net.backward_rnn.lstm.hidden_size
        elif form == "gaussian":
            raise ValueError(
                f"'learn' must be 'ratio' or 'bound' for a {type(net).__name__} without a backward "
                "state, got 'auxiliary'"
            )
        else:
            b_dim, emission = hidden_dim, net.emission
            self.embed = embedding(emission.x_dim, hidden_dim, emission.symbols)
            self.reader = BackwardLSTM(hidden_dim, hidden_dim)
        if form == "gaussian":
            self.f: nn.Module = DiagNormal(h_dim, b_dim, hidden_dims)
            return
        sizes = (h_dim + b_dim, 1) if form == "mlp" else (b_dim, h_dim * h_dim + h_dim + 1)
        self.f = MLP(sizes[0], hidden_dims, sizes[1])
        for parameter in self.f.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def future(self, batch: SequenceBatch, b: Tensor | None) -> Tensor:
        """Returns b_{t+1} of all steps, ``(batch, time, dim)``, without meaning after the last.

        ``b`` are the net's own b_t; None where it has none.
        """
        if self.reader is not None and self.embed is not None:
            b = self.reader(self.embed(batch.x), batch.lengths)
        assert b is not None
        return pad(b[:, 1:], (0, 0, 0, 1))

    def forward(self, h: Tensor, future: Tensor) -> Tensor:
        """Returns log r_t; ``h`` has leading dims that those of ``future`` broadcast to."""
        if self.form == "gaussian":
            return self.f(h).log_prob(future)
        if self.form == "mlp":
            return self.f(concat(h, future))[..., 0]
        size = h.shape[-1]
        square, slope, constant = self.f(future).split([size * size, size, 1], -1)
        product = (square.unflatten(-1, (size, size)) @ h[..., None])[..., 0]
        return ((product + slope) * h).sum(-1) + constant[..., 0]


def goes_on(mask: Tensor) -> Tensor:
    """Returns where a real step is followed by another, from the mask of both, (batch, time)."""
    return pad(mask[:, 1:], (0, 1))


def another(future: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the futures and the mask of other sequences of the batch, at the same steps.

    The mask of a batch of one is False.
    """
    num = len(mask)
    shift = int(torch.randint(1, num, ())) if num > 1 else 0
    return future.roll(shift, 0), mask.roll(shift, 0) & (num > 1)
