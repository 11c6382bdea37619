"""NADE over the keys of a piano-roll (Larochelle & Murray, 2011)."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import linear, pad, softplus

from ..data.checks import MAX_SIZE, check_range
from ..layers.blocks import MLP, full_precision
from .base import Emission


class NADE(Emission):
    r"""Features to a binary vector whose entries depend on those before them.

    The features set both biases of the network (RNN-NADE, Boulanger-Lewandowski et al., 2012,
    https://arxiv.org/abs/1206.6392).

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between the features and the biases.
        nade_dim: Number of hidden units.
    """

    support = constraints.boolean

    def __init__(
        self, in_dim: int, x_dim: int, hidden_dims: Sequence[int] = (), nade_dim: int = 128
    ):
        super().__init__()
        check_range(1, MAX_SIZE, nade_dim=nade_dim)
        self.x_dim = x_dim
        self.mlp = MLP(in_dim, hidden_dims, x_dim + nade_dim)
        self.weight_in = nn.Parameter(torch.empty(x_dim, nade_dim))
        self.weight_out = nn.Parameter(torch.empty(x_dim, nade_dim))
        for weight, fan_in in ((self.weight_in, x_dim), (self.weight_out, nade_dim)):
            nn.init.uniform_(weight, -(fan_in**-0.5), fan_in**-0.5)

    def forward(self, features: Tensor) -> dist.Distribution:
        output = full_precision(self.mlp(features))
        biases = output[..., : self.x_dim], output[..., self.x_dim :]
        return AutoregressiveBernoulli(*biases, self.weight_in, self.weight_out)


class AutoregressiveBernoulli(TorchDistribution):
    r"""Binary vectors, each entry a Bernoulli variable given those before it.

    .. math:: p(x) = \prod_i p(x_i \mid x_{<i}), \qquad
        \operatorname{logit} p(x_i = 1 \mid x_{<i})
        = b_i + V_i \cdot \sigma\Big(c + \sum_{j<i} x_j W_j\Big)

    :meth:`log_prob` is exact, and one computation for all entries; :meth:`sample` is a loop.

    Args:
        bias_out: b. Shape ``(..., x_dim)``.
        bias_in: c. Shape ``(..., nade_dim)``.
        weight_in, weight_out: W and V. Shapes ``(x_dim, nade_dim)``.
    """

    arg_constraints = {"bias_out": constraints.real_vector, "bias_in": constraints.real_vector}
    support = constraints.independent(constraints.boolean, 1)

    def __init__(
        self,
        bias_out: Tensor,
        bias_in: Tensor,
        weight_in: Tensor,
        weight_out: Tensor,
        validate_args=None,
    ):
        shape = torch.broadcast_shapes(bias_out.shape[:-1], bias_in.shape[:-1])
        self.bias_out = bias_out.expand(*shape, -1)
        self.bias_in = bias_in.expand(*shape, -1)
        self.weight_in, self.weight_out = weight_in, weight_out
        super().__init__(shape, bias_out.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits = self.conditional_logits(value)
        return (value * logits - softplus(logits)).sum(-1)

    def conditional_logits(self, value: Tensor) -> Tensor:
        """Returns the logits of p(x_i = 1 | x_{<i}) at ``value``, ``(..., x_dim)``."""
        # Hidden units change only behind an entry that is 1, and a chord has few of them: compute
        # them once for each number of ones before an entry, (..., ones + 1, nade_dim).
        most = value.shape[-1] if value.is_meta else int(value.sum(-1).max())
        ones = value.sort(dim=-1, descending=True, stable=True).indices[..., :most]
        added = value.gather(-1, ones)[..., None] * self.weight_in[ones]
        hidden = (self.bias_in[..., None, :] + pad(added.cumsum(-2), (0, 0, 1, 0))).sigmoid()
        num_before = (value.cumsum(-1) - value).long()
        with torch.autocast(hidden.device.type, enabled=False):
            logits = linear(hidden, self.weight_out)
        index = num_before[..., None, :].expand(*logits.shape[:-2], 1, -1)
        return self.bias_out + logits.gather(-2, index)[..., 0, :]

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        before = self.bias_in.expand(*shape[:-1], -1)
        entries = []
        for bias, weight_in, weight_out in zip(
            self.bias_out.unbind(-1), self.weight_in, self.weight_out
        ):
            logit = bias + (before.sigmoid() * weight_out).sum(-1)
            entries.append(torch.bernoulli(logit.sigmoid()))
            before = before + entries[-1][..., None] * weight_in
        return torch.stack(entries, dim=-1)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "AutoregressiveBernoulli":
        bias_out, bias_in = (v.expand(*batch_shape, -1) for v in (self.bias_out, self.bias_in))
        check = self._validate_args
        return AutoregressiveBernoulli(bias_out, bias_in, self.weight_in, self.weight_out, check)
