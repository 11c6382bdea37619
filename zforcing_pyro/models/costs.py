"""Costs on a backward state that make latents carry a plan of the future."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn

from ..data.checks import check_choice, check_range
from ..emissions import DiagNormal, Emission
from ..estimators.terms import CostWeights
from ..layers.blocks import MLP, concat, delayed, full_precision, no_frame
from ..layers.in_blocks import in_blocks

AuxInput = Literal["z", "h_z"]
AuxKind = Literal["gaussian", "l2"]
AuxTarget = Literal["raw", "standardised"]
AuxReaches = Literal["guide", "all_but_backward", "heads"]
ReverseUnit = Literal["nats", "frame"]

MOMENTUM = 0.01
"""Least weight of a batch in the running moments; the first batches weigh more."""


def bag_of_future(features: Tensor, mask: Tensor) -> Tensor:
    """Returns means of the features of this step and all later ones, without a gradient.

    The bag-of-words cost of Zhao et al. (2017, https://arxiv.org/abs/1703.10960), of what is yet to
    come and in embedded frames. Shapes: ``(batch, time, dim)``, and ``(batch, time)`` of the mask.

    Example:
        >>> bag_of_future(torch.tensor([[[1.0], [2.0], [6.0], [9.0]]]), torch.arange(4)[None] < 3)
        tensor([[[3.],
                 [4.],
                 [6.],
                 [0.]]])
    """
    real = mask[..., None].to(features.dtype)
    total, count = ((v * real).detach().flip(1).cumsum(1).flip(1) for v in (features, real))
    return total / count.clamp(min=1)


class FutureCosts(nn.Module):
    r"""The auxiliary and the reverse cost of Goyal et al. (2017), Eqs. 8 and 10.

    .. math::
        \alpha \log \mathcal{N}(b_t; \tanh \mu_a(z_t), \sigma_a(z_t))
            + \beta \log p(x_{t-1} \mid b_t)

    They are part of a training objective, and of no bound on log p(x). The auxiliary target
    :math:`b_t` is detached, its argument :math:`z_t` is not; the reverse cost trains
    :math:`b_t`. The weights alpha and beta are the net's ``weights``, ``first_weights`` at first.

    The published cost is a sum over the dimensions of b_t. With a standardised target,
    (b_t - m) / s by running moments m and s, it is a mean over them, so that a weight means the
    same at every width. In frames, the reverse cost is divided by the root mean square of its
    nats per frame, also a running moment, so that a weight means the same on all data. The training
    loop moves the moments after each update, by :meth:`observe`; they are saved with the net.

    Args:
        emission: Family of p(x_{t-1} | b_t), called as ``emission(b_dim, x_dim, hidden_dims=())``.
        x_dim, z_dim, b_dim: Sizes of x_t, z_t and b_t.
        hidden_dim: Size of the hidden layer of the auxiliary network.
        past_dim: Size of h_{t-1} if the auxiliary network reads it too, else 0.
        target_dim: Size of the auxiliary target.
        gaussian: Clamp and scale of the auxiliary Gaussian, as in :class:`DiagNormal`.
        aux_weight: alpha, weight of log p(b_t | z_t).
        reverse_weight: beta, weight of log p(x_{t-1} | b_t).
        aux_network: Whether the auxiliary network is built, whatever its weight.
        reverse_network: Whether the reverse network is built, whatever its weight.
        aux_kind: Gaussian log-density, or L2: minus the squared error.
        aux_target: The auxiliary target: b_t as it is, or standardised, then never squashed.
        reverse_unit: Nats, or a share of the reverse cost's own nats per frame.
        aux_tanh: Whether the auxiliary mean is squashed to (-1, 1), the range of b_t.
        reverse_needs_aux: Whether the reverse cost is off while the auxiliary weight is 0.
    """

    auxiliary: MLP | DiagNormal | None
    reverse: Emission | None
    target_mean: Tensor
    target_square: Tensor
    frame_square: Tensor
    num_batches: Tensor

    def __init__(
        self,
        emission: Callable[..., Emission],
        x_dim: int,
        z_dim: int,
        b_dim: int,
        hidden_dim: int,
        past_dim: int,
        target_dim: int,
        gaussian: dict[str, Any],
        aux_weight: float = 0.0,
        reverse_weight: float = 0.0,
        aux_network: bool = False,
        reverse_network: bool = False,
        aux_kind: AuxKind = "gaussian",
        aux_target: AuxTarget = "raw",
        reverse_unit: ReverseUnit = "nats",
        aux_tanh: bool = True,
        reverse_needs_aux: bool = False,
    ):
        super().__init__()
        check_choice(AuxKind, aux_kind=aux_kind)
        check_choice(AuxTarget, aux_target=aux_target)
        check_choice(ReverseUnit, reverse_unit=reverse_unit)
        self.first_weights = CostWeights(aux_weight, reverse_weight)
        for name, network in {"aux": aux_network, "reverse": reverse_network}.items():
            weight = getattr(self.first_weights, name)
            check_range(0, **{f"{name}_weight": weight})
            if weight and not network:
                raise ValueError(
                    f"'{name}_weight' must be 0 without '{name}_network', got {weight}; "
                    f"{name}_network=True builds the network that it weighs"
                )
        self.standardised, self.in_frames = aux_target == "standardised", reverse_unit == "frame"
        tanh_mean = aux_tanh and not self.standardised
        self.reads_h, self.kind, self.tanh_mean = past_dim > 0, aux_kind, tanh_mean
        self.reverse_needs_aux = reverse_needs_aux
        in_dim, hidden_dims = past_dim + z_dim, [hidden_dim]
        reverse = emission(b_dim, x_dim, hidden_dims=()) if reverse_network else None
        if not aux_network:
            self.auxiliary = None
        elif aux_kind == "l2":
            self.auxiliary = MLP(in_dim, hidden_dims, target_dim)
        else:
            gaussian = {**gaussian, "tanh_mean": tanh_mean}
            self.auxiliary = DiagNormal(in_dim, target_dim, hidden_dims, **gaussian)
        self.reverse = reverse
        if self.standardised:
            self.register_buffer("target_mean", torch.zeros(b_dim))
            self.register_buffer("target_square", torch.ones(b_dim))
        if self.in_frames:
            self.register_buffer("frame_square", torch.ones(()))
        if self.has_moments:
            self.register_buffer("num_batches", torch.zeros(()))

    @torch.no_grad()
    def observe(self, b: Tensor, x: Tensor, mask: Tensor, x_prev: Tensor | None) -> None:
        """Moves the running moments towards those of a batch, whose real steps are in ``mask``."""
        if not self.has_moments:
            return
        self.num_batches += 1
        share = (1 / self.num_batches).clamp(min=MOMENTUM)
        if self.standardised:
            steps = b[mask].to(self.target_mean)
            self.target_mean.lerp_(steps.mean(0), share)
            self.target_square.lerp_(steps.square().mean(0), share)
        if self.in_frames and self.reverse is not None:
            nats = self.frame_nats * self.log_reverse_of_steps(b, x, x_prev)[mask]
            self.frame_square.lerp_(nats.square().mean().to(self.frame_square), share)

    @property
    def has_moments(self) -> bool:
        """True if a cost is in units of running moments."""
        return self.standardised or self.in_frames

    @property
    def frame_nats(self) -> Tensor | float:
        """Nats that the reverse cost is divided by, at least 1."""
        return self.frame_square.sqrt().clamp(min=1.0) if self.in_frames else 1.0

    @property
    def target_scale(self) -> Tensor | float:
        """Deviation that the auxiliary target is divided by, ``(b_dim,)``, or 1."""
        if not self.standardised:
            return 1.0
        return (self.target_square - self.target_mean.square()).clamp(min=1e-8).sqrt()

    def target(self, b: Tensor) -> Tensor:
        """Returns the auxiliary target for b_t, without a gradient."""
        b = b.detach()
        return (b - self.target_mean) / self.target_scale if self.standardised else b

    def active(self, weights: CostWeights) -> CostWeights:
        """Returns the weights that costs have now: with ``reverse_needs_aux`` both may be 0."""
        is_off = self.reverse_needs_aux and weights.aux == 0
        return replace(weights, reverse=0.0 if is_off else weights.reverse)

    def log_auxiliary(self, z: Tensor, h_past: Tensor, b: Tensor) -> Tensor | None:
        """Returns log p(b_t | z_t) of some steps or of one in nats; None without a network.

        Shape of the leading dims of ``z``; ``b`` has no particles. A standardised target has the
        mean over b_dim.
        """
        if self.auxiliary is None:
            return None
        tensors = (z, -2), (h_past, -2), (b, -2)
        return in_blocks(self._log_auxiliary, self.auxiliary, z[..., 0].numel(), *tensors)

    def _log_auxiliary(self, z: Tensor, h_past: Tensor, b: Tensor) -> Tensor:
        assert self.auxiliary is not None
        output, target = self.auxiliary(concat(h_past, z) if self.reads_h else z), self.target(b)
        if self.kind == "gaussian":
            cost = output.log_prob(target)
        else:
            output = full_precision(output)
            mean = output.tanh() if self.tanh_mean else output
            cost = -(target - mean).square().sum(-1)
        return cost / b.shape[-1] if self.standardised else cost

    def log_reverse(self, b: Tensor, x_prev: Tensor) -> Tensor:
        """Returns log p(x_{t-1} | b_t), not weighted, in nats or frames."""
        assert self.reverse is not None
        return self.reverse(b).log_prob(x_prev) / self.frame_nats

    def log_reverse_of_steps(self, b: Tensor, x: Tensor, x_prev: Tensor | None) -> Tensor:
        """Returns :meth:`log_reverse` of all steps, ``(batch, time)``: 0 where nothing precedes.

        ``x_prev`` is the frame before the first step, marked as in :func:`no_frame`, or None.
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
        """Returns a frame with zeros for a missing one, and where it is missing, ``(batch,)``."""
        symbols = self.reverse is not None and self.reverse.symbols
        none = no_frame(x_prev, symbols)
        return torch.where(none, 0, x_prev), none if symbols else none[..., 0]

    def factors(
        self,
        t: int,
        weights: CostWeights,
        z: Tensor,
        h_past: Tensor,
        b: Tensor,
        x_prev: Tensor | None,
        target: Tensor | None = None,
    ) -> None:
        """Adds ``pyro.factor`` of each weighted cost of step t to a guide: aux_t and reverse_t.

        An objective subtracts the guide's log-density, so a guide's factor is minus the cost.
        The auxiliary ``target`` is b_t by default. Without a frame ``x_prev`` before the step the
        reverse cost is 0.
        """
        weights = self.active(weights)
        target = b if target is None else target
        if (log_auxiliary := self.log_auxiliary(z, h_past, target)) is not None:
            pyro.factor(f"aux_{t}", -weights.aux * log_auxiliary, has_rsample=True)
        if self.reverse is None:
            return
        log_reverse = full_precision(b.new_zeros(b.shape[:-1]))
        if x_prev is not None:
            x_prev, nothing = self.preceding(x_prev)
            log_reverse = torch.where(nothing, 0.0, self.log_reverse(b, x_prev))
        pyro.factor(f"reverse_{t}", -weights.reverse * log_reverse, has_rsample=True)
