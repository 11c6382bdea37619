"""LSTMs whose input has parts, one of which may be a latent. Leading dims are free."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from .blocks import MLP, folded, reverse_padded
from .products import Linear, linear

LSTMState = tuple[Tensor, Tensor]


def lstm_update(gates: Tensor, c: Tensor) -> LSTMState:
    """Returns h and c; ``gates``, ``(..., 4 h_dim)``, are those of input, forget, cell, output."""
    i, f, g, o = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class LSTMCell(nn.Module):
    r"""An LSTM cell for any leading dims, so that particles are nothing special.

    .. math:: \text{gates}_t = W_x x_t + W_z z_t + W_h h_{t-1} + b

    A caller may project x_t of all steps beforehand. Initialised as in Goyal et al. (2017):
    orthogonal recurrent weights, :math:`U(\pm 1/\sqrt{H})` input weights, zero biases.

    Args:
        in_dim, z_dim, h_dim: Sizes of x_t, z_t and h_t.
    """

    def __init__(self, in_dim: int, z_dim: int, h_dim: int):
        super().__init__()
        self.h_dim = h_dim
        self.weight_x = nn.Parameter(torch.empty(4 * h_dim, in_dim))
        self.weight_z = nn.Parameter(torch.empty(4 * h_dim, z_dim))
        self.weight_h = nn.Parameter(torch.empty(4 * h_dim, h_dim))
        self.bias = nn.Parameter(torch.zeros(4 * h_dim))
        for weight in (self.weight_x, self.weight_z):
            nn.init.uniform_(weight, -(h_dim**-0.5), h_dim**-0.5)
        nn.init.orthogonal_(self.weight_h)

    def forward(self, x: Tensor, z: Tensor, state: LSTMState) -> LSTMState:
        """Returns the next state. Shapes ``(..., in_dim)``, ``(..., z_dim)``, ``(..., h_dim)``."""
        return self.step(self.project(x), z, state)

    def project(self, x: Tensor, layer: Linear | None = None) -> Tensor:
        """Returns the part of the gates that needs no state, for any number of steps.

        A ``layer`` is yet to be applied to ``x``, see :meth:`VectorEmbedding.deferred`.
        """
        return linear(x, *folded(self.weight_x, self.bias, layer))

    def step(self, projected: Tensor, z: Tensor, state: LSTMState) -> LSTMState:
        """Returns the next state, given :meth:`project` of the input."""
        h, c = state
        return lstm_update(projected + linear(h, self.weight_h) + linear(z, self.weight_z), c)


class ConditionalLayerNormLSTMCell(LSTMCell):
    r"""An LSTM cell in which a latent sets the gains and biases of layer normalisation.

    .. math:: \text{gates}_t = g_x(z_t) \odot \mathrm{LN}(W_x x_t) + b_x(z_t)
        + g_h(z_t) \odot \mathrm{LN}(W_h h_{t-1}) + b_h(z_t) + b

    :math:`g - 1` and :math:`b` come from a network with one hidden layer.

    Args:
        in_dim, z_dim, h_dim: Sizes of x_t, z_t and h_t.
        hidden_dim: Size of the hidden layer between z_t and the gains and biases.
    """

    def __init__(self, in_dim: int, z_dim: int, h_dim: int, hidden_dim: int):
        super().__init__(in_dim, z_dim, h_dim)
        del self.weight_z
        self.condition = MLP(z_dim, [hidden_dim], 16 * h_dim)

    def project(self, x: Tensor, layer: Linear | None = None) -> Tensor:
        return normalized(linear(x, *folded(self.weight_x, None, layer)))

    def step(self, projected: Tensor, z: Tensor, state: LSTMState) -> LSTMState:
        h, c = state
        gain_x, bias_x, gain_h, bias_h = self.condition(z).chunk(4, dim=-1)
        recurrent = normalized(linear(h, self.weight_h))
        gates = (1 + gain_x) * projected + bias_x + (1 + gain_h) * recurrent + bias_h
        return lstm_update(gates + self.bias, c)


def normalized(x: Tensor) -> Tensor:
    """Returns ``x`` with zero mean and unit variance over the last dim."""
    return layer_norm(x, x.shape[-1:])


class BackwardLSTM(nn.Module):
    """An LSTM that reads each sequence from its last valid step to its first, and no padding."""

    def __init__(self, in_dim: int, h_dim: int):
        super().__init__()
        self.lstm = nn.LSTM(in_dim, h_dim, batch_first=True)
        nn.init.orthogonal_(self.lstm.all_weights[0][1])  # of the state

    def forward(self, x: Tensor, lengths: Tensor, layer: Linear | None = None) -> Tensor:
        """Returns the states, ``(batch, time, h_dim)``, of inputs ``(batch, time, in_dim)``.

        With a ``layer``, see :meth:`VectorEmbedding.deferred`, ``x`` is what it is applied to.
        """
        x, lstm = reverse_padded(x, lengths), self.lstm
        if layer is None:
            b, _ = lstm(x)
        else:
            weight_x, weight_h, bias_x, bias_h = lstm.all_weights[0]
            weight, bias = folded(weight_x, bias_x, layer)
            weights: Any = [weight, weight_h, bias, bias_h]
            zero = x.new_zeros(1, len(x), lstm.hidden_size)
            b, _, _ = torch.lstm(x, (zero, zero), weights, True, 1, 0.0, True, False, True)
        return reverse_padded(b, lengths)


class ForwardLSTM(nn.Module):
    """An LSTM for one call for all steps, or step by step."""

    def __init__(self, in_dim: int, h_dim: int):
        super().__init__()
        self.h_dim = h_dim
        self.lstm = nn.LSTM(in_dim, h_dim, batch_first=True)
        _, weight_h, *biases = self.lstm.all_weights[0]
        nn.init.orthogonal_(weight_h)
        for bias in biases:
            nn.init.zeros_(bias)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Returns the states of all steps, ``(..., time, h_dim)``, and the last.

        Leading dims of ``x``, ``(..., time, in_dim)``, and of ``state`` broadcast.
        """
        leading = torch.broadcast_shapes(x.shape[:-2], state[0].shape[:-1])
        x = x.expand(*leading, *x.shape[-2:]).flatten(0, -3)
        state = tuple(v.expand(*leading, -1).reshape(1, -1, self.h_dim) for v in state)
        hs, (h, c) = self.lstm(x, state)
        return hs.unflatten(0, leading), (h.view(*leading, -1), c.view(*leading, -1))

    def step(self, x: Tensor, state: LSTMState) -> LSTMState:
        """Returns the next state. Shapes ``(..., in_dim)``, state twice ``(..., h_dim)``."""
        (weight_x, weight_h, bias_x, bias_h), (h, c) = self.lstm.all_weights[0], state
        return lstm_update(linear(x, weight_x, bias_x) + linear(h, weight_h, bias_h), c)
