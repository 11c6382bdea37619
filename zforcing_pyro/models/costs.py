"""Costs on a backward state that make latents carry a plan of the future."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..emissions import DiagNormal, Emission, Scale
from ..estimators.terms import CostWeights
from ..layers.blocks import MLP, concat, delayed, full_precision, no_frame
from ..layers.in_blocks import in_blocks
from .checks import check_choice

AuxInput = Literal["z", "h_z"]
AuxKind = Literal["gaussian", "l2"]


class FutureCosts(nn.Module):
    r"""The auxiliary and the reverse cost of Goyal et al. (2017), Eqs. 8 and 10.

    .. math::
        \alpha \log \mathcal{N}(b_t; \tanh \mu_a(z_t), \sigma_a(z_t))
            + \beta \log p(x_{t-1} \mid b_t)

    They are part of a training objective, and of no bound on log p(x). The auxiliary target
    :math:`b_t` is detached, its argument :math:`z_t` is not; the reverse cost trains
    :math:`b_t`. The weights alpha and beta are the net's ``weights``.

    Args:
        z_dim, b_dim: Sizes of z_t and b_t.
        hidden_dim: Size of the hidden layer of the auxiliary network.
        auxiliary: Whether there is an auxiliary network.
        reverse: Builds the network from b_t to the distribution of x_{t-1}; None builds none.
        h_dim: Size of h_{t-1} if the auxiliary network reads it too, else 0.
        kind: Gaussian, or the negative squared error -|| b_t - tanh mu_a ||^2.
        tanh_mean: Whether the auxiliary mean is squashed.
        clamp, scale: As in :class:`DiagNormal`, for the Gaussian.
        reverse_needs_aux: Whether the reverse cost is off while alpha is 0.

    Raises:
        ValueError: If ``kind`` is unknown.
    """

    def __init__(
        self,
        z_dim: int,
        b_dim: int,
        hidden_dim: int,
        auxiliary: bool,
        reverse: Callable[[], Emission] | None,
        h_dim: int = 0,
        kind: AuxKind = "gaussian",
        tanh_mean: bool = True,
        clamp: float = 8.0,
        scale: Scale = "log_scale",
        reverse_needs_aux: bool = False,
    ):
        super().__init__()
        check_choice(AuxKind, aux_kind=kind)
        self.reads_h, self.kind, self.tanh_mean = h_dim > 0, kind, tanh_mean
        self.reverse_needs_aux = reverse_needs_aux
        in_dim, hidden_dims = h_dim + z_dim, [hidden_dim]
        if not auxiliary:
            self.auxiliary = None
        elif kind == "l2":
            self.auxiliary = MLP(in_dim, hidden_dims, b_dim)
        else:
            self.auxiliary = DiagNormal(
                in_dim, b_dim, hidden_dims, clamp=clamp, scale=scale, tanh_mean=tanh_mean
            )
        self.reverse = None if reverse is None else reverse()

    def active(self, weights: CostWeights) -> CostWeights:
        """Returns the weights that costs have now: with ``reverse_needs_aux`` both may be 0."""
        is_off = self.reverse_needs_aux and weights.aux == 0
        return replace(weights, reverse=0.0 if is_off else weights.reverse)

    def log_auxiliary(self, z: Tensor, h_past: Tensor, b: Tensor) -> Tensor:
        """log p(b_t | z_t), in nats. Shape of the leading dims."""
        if self.auxiliary is None:
            return full_precision(z.new_zeros(z.shape[:-1]))
        output = self.auxiliary(concat(h_past, z) if self.reads_h else z)
        if self.kind == "l2":
            output = full_precision(output)
            mean = output.tanh() if self.tanh_mean else output
            return -(b.detach() - mean).square().sum(-1)
        return output.log_prob(b.detach())

    def log_auxiliary_of_steps(self, z: Tensor, h_past: Tensor, b: Tensor) -> Tensor:
        """:meth:`log_auxiliary` of all steps, ``(particles, batch, time)``; ``b`` has no particles.

        In blocks of steps where it is large.
        """
        if self.auxiliary is None:
            return self.log_auxiliary(z, h_past, b)
        tensors = (z, -2), (h_past, -2), (b, -2)
        return in_blocks(self.log_auxiliary, self.auxiliary, z[..., 0].numel(), *tensors)

    def log_reverse(self, b: Tensor, x_prev: Tensor) -> Tensor:
        """log p(x_{t-1} | b_t), in nats. Shape of the leading dims."""
        return self.reverse(b).log_prob(x_prev)

    def log_reverse_of_steps(self, b: Tensor, x: Tensor, x_prev: Tensor | None) -> Tensor:
        """:meth:`log_reverse` of all steps, 0 at the first of sequences that nothing precedes.

        Args:
            b: ``(batch, time, b_dim)``.
            x: ``(batch, time, x_dim)``, or ``(batch, time)`` for symbols.
            x_prev: Frame before the first step, marked as in :func:`no_frame`, or None.
        """
        if self.reverse is None:
            return full_precision(b.new_zeros(b.shape[:-1]))
        first, nothing = self.preceding(x[:, 0] if x_prev is None else x_prev)
        tensors, rows = ((b, 1), (delayed(first, x), 1)), b[..., 0].numel()
        log_reverse = in_blocks(self.log_reverse, self.reverse, rows, *tensors)
        nothing = torch.ones_like(nothing) if x_prev is None else nothing
        steps = torch.arange(x.shape[1], device=x.device)
        return torch.where(nothing[:, None] & (steps == 0), 0.0, log_reverse)

    def preceding(self, x_prev: Tensor) -> tuple[Tensor, Tensor]:
        """A frame with zeros for a mark that there is none, and where it was that: ``(batch,)``."""
        none = no_frame(x_prev, self.reverse.symbols)
        return torch.where(none, 0, x_prev), none if self.reverse.symbols else none[..., 0]

    def factors(
        self, weights: CostWeights, z: Tensor, h_past: Tensor, b: Tensor, x_prev: Tensor | None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields name and weighted log-factor of each cost of one step.

        An objective subtracts the guide's log-density, so a guide's factor is minus the cost.
        Without a frame ``x_prev`` before the step the reverse cost is 0.
        """
        weights = self.active(weights)
        if self.auxiliary is not None:
            yield "aux", -weights.aux * self.log_auxiliary(z, h_past, b)
        if self.reverse is not None:
            zero = full_precision(b.new_zeros(b.shape[:-1]))
            if x_prev is None:
                yield "reverse", zero
            else:
                x_prev, nothing = self.preceding(x_prev)
                log_reverse = torch.where(nothing, 0.0, self.log_reverse(b, x_prev))
                yield "reverse", -weights.reverse * log_reverse
