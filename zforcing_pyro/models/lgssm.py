"""A linear-Gaussian state-space model: the oracle of every bound."""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.ops.gaussian import Gaussian, matrix_and_mvn_to_gaussian
from torch import Tensor, nn
from torch.nn.functional import linear

from ..data.checks import MAX_SIZE, check_range
from ..emissions import Emission
from ..emissions.normal import DiagonalNormal
from .base import StochasticRNN
from .steps import Path, State

Sees = Literal["future", "present", "nothing"]


class LGSSM(StochasticRNN):
    r"""A linear-Gaussian state-space model, of which everything is known in closed form.

    .. math::
        p(x, z) &= \prod_t \mathcal{N}(z_t; A z_{t-1}, Q)\, \mathcal{N}(x_t; C z_t, R),
            & z_0 &= 0, \quad Q, R \text{ diagonal}

        q(z_t \mid z_{t-1}, x) &\propto p(z_t \mid z_{t-1})\,
            \exp(\eta_t^\top z_t - \tfrac{1}{2} z_t^\top \Lambda_t z_t)

    The last factor is, up to a constant,

    - :math:`p(x_t, \dots, x_T \mid z_t)` if the guide sees the ``future``. Then q is the exact
      posterior, and each importance weight is p(x): bounds are log p(x), without variance.
    - :math:`p(x_t \mid z_t)` if the guide sees the ``present``: of all proposals that filter, the
      one whose incremental weights do not vary with the latent drawn.
    - 1 if the guide sees ``nothing``: q is the prior, as in a bootstrap particle filter.

    ``shift`` and ``log_spread``, parameters of the guide alone, move its means and widen its
    scales: 0 is none, anything else makes a bound loose on purpose.

    The model is in no registry of models to train, because its emission is part of it.

    Args:
        x_dim: Size of x_t.
        z_dim: Size of z_t.
        guide_sees: Which observations the guide sees beside z_{t-1}.
        shift: First value of ``shift``, added to the means.
        spread: First value of the factor on the scales.

    Example:
        >>> net, x, lengths = LGSSM(x_dim=2), torch.randn(3, 5, 2), torch.tensor([5, 5, 1])
        >>> bound = TraceIWAE().bound(net.terms(x, lengths))
        >>> torch.allclose(bound, net.log_likelihood(x, lengths), atol=1e-4)
        True
    """

    emission: "LinearNormal"
    reads_inputs = False

    def __init__(
        self,
        x_dim: int,
        z_dim: int = 2,
        guide_sees: Sees = "future",
        shift: float = 0.0,
        spread: float = 1.0,
    ):
        super().__init__()
        check_range(1, MAX_SIZE, x_dim=x_dim, z_dim=z_dim)
        if spread <= 0:
            raise ValueError(f"'spread' must be positive, got {spread}")
        self.state_dims, self.guide_sees = {"z": z_dim}, guide_sees
        self.transition = nn.Parameter(0.9 * nn.init.orthogonal_(torch.empty(z_dim, z_dim)))
        self.log_scale = nn.Parameter(torch.full((z_dim,), -0.5))
        self.emission = LinearNormal(z_dim, x_dim)
        self.shift = nn.Parameter(torch.full((z_dim,), shift))
        self.log_spread = nn.Parameter(torch.full((z_dim,), spread).log())

    def prior(self, z_past: Tensor) -> dist.Distribution:
        """Returns p(z_t | z_{t-1})."""
        mean = linear(z_past, self.transition)
        return dist.MultivariateNormal(mean, scale_tril=self.log_scale.exp().diag())

    def messages(self, x: Tensor, mask: Tensor, sees: Sees) -> tuple[list[Gaussian], Any]:
        """Passes messages backwards in time.

        Returns:
            p(z_t, seen | z_{t-1}) of each step, a :class:`~pyro.ops.gaussian.Gaussian` over
            (z_{t-1}, z_t), and p(seen | z_0), over z_0; padding says nothing.
        """
        size, emission = len(self.transition), self.emission
        transition = matrix_and_mvn_to_gaussian(self.transition.T, self.prior(x.new_zeros(size)))
        noise = dist.MultivariateNormal(
            torch.zeros_like(emission.log_scale), scale_tril=emission.log_scale.exp().diag()
        )
        seen = matrix_and_mvn_to_gaussian(emission.weight.T, noise).condition(x)
        mask = torch.zeros_like(mask) if sees == "nothing" else mask
        seen = Gaussian(
            torch.where(mask, seen.log_normalizer, 0.0),
            torch.where(mask[..., None], seen.info_vec, 0.0),
            torch.where(mask[..., None, None], seen.precision, 0.0),
        )
        joints: list[Gaussian] = []
        message: Any = None
        for t in reversed(range(x.shape[1])):
            factor = seen[:, t] if message is None or sees != "future" else seen[:, t] + message
            joints.insert(0, transition + factor.event_pad(left=size))
            message = joints[0].marginalize(right=size)
        return joints, message

    def affine(self, x: Tensor, mask: Tensor, sees: Sees) -> tuple[Tensor, Tensor, Tensor]:
        """Computes p(z_t | z_{t-1}, seen) of all steps: a Gaussian whose mean is affine in z_{t-1}.

        Returns:
            The slope and the offset of the mean, ``(batch, time, z_dim, z_dim)`` and
            ``(batch, time, z_dim)``, and the scale, lower triangular.
        """
        joints, _ = self.messages(x, mask, sees)
        size = len(self.transition)
        precision = torch.stack([joint.precision for joint in joints], 1)
        info = torch.stack([joint.info_vec[..., size:] for joint in joints], 1)
        covariance = torch.linalg.inv(precision[..., size:, size:])
        slope = -covariance @ precision[..., size:, :size]
        offset = (covariance @ info[..., None])[..., 0]
        return slope, offset, torch.linalg.cholesky((covariance + covariance.mT) / 2)

    def approximation(
        self, z_past: Tensor, slope: Tensor, offset: Tensor, scale_tril: Tensor
    ) -> dist.Distribution:
        """Returns q(z_t | z_{t-1}, x), given :meth:`affine`, of one step or all."""
        mean = (slope @ z_past[..., None])[..., 0] + offset + self.shift
        return dist.MultivariateNormal(mean, scale_tril=self.log_spread.exp()[:, None] * scale_tril)

    def model(self, x, lengths=None, state=None, inputs=None):
        x, mask = self.start(x, lengths)
        (z,) = self.begin(x, state, "z")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.prior(z))
                    x_t = pyro.sample(f"x_{t}", self.emission(z), obs=x[:, t])
        return {"z": z, "x_prev": x_t}

    def guide(self, x, lengths=None, state=None, inputs=None):
        x, mask = self.start(x, lengths)
        (z,) = self.begin(x, state, "z")
        slope, offset, scale_tril = self.affine(x, mask, self.guide_sees)
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    q = self.approximation(z, slope[:, t], offset[:, t], scale_tril[:, t])
                    z = pyro.sample(f"z_{t}", q)
        return {"z": z}

    def context(self, batch):
        affine = self.affine(batch.x, batch.mask, self.guide_sees)
        return dict(zip(("slope", "offset", "scale_tril"), affine)), {}

    def path(self, context, state, latents):
        affine, zs = [context[name] for name in ("slope", "offset", "scale_tril")], [state["z"]]
        for t, step in enumerate(zip(*(v.unbind(1) for v in affine))):
            q = self.approximation(zs[-1], *step)
            zs.append(q.rsample() if latents is None else latents[:, :, t])
        z_past, z = (torch.stack(v, 2) for v in (zs[:-1], zs[1:]))
        log_emission = self.emission(z).log_prob(context["x"])
        posterior = self.approximation(z_past, *affine)
        return Path(z, self.prior(z_past), posterior, log_emission, {"z": zs[-1]})

    def log_likelihood(self, x, lengths=None, state: State | None = None) -> Tensor:
        """Returns log p(x) of each sequence in nats, exactly. Shape ``(batch,)``."""
        x, mask = self.start(x, lengths)
        _, message = self.messages(x, mask, "future")
        return message.log_density(*self.begin(x, state, "z"))

    def smoother(self, x, lengths=None, state: State | None = None) -> tuple[Tensor, Tensor]:
        """Returns mean and covariance of p(z_t | x_1, ..., x_T), without meaning at padding.

        Shapes ``(batch, time, z_dim)`` and ``(batch, time, z_dim, z_dim)``.
        """
        x, mask = self.start(x, lengths)
        (mean,) = self.begin(x, state, "z")
        means, covariances, covariance = [], [], torch.zeros_like(self.transition)
        for step in zip(*(v.unbind(1) for v in self.affine(x, mask, "future"))):
            slope, offset, scale_tril = step
            mean = (slope @ mean[..., None])[..., 0] + offset
            covariance = slope @ covariance @ slope.mT + scale_tril @ scale_tril.mT
            means.append(mean)
            covariances.append(covariance)
        return torch.stack(means, 1), torch.stack(covariances, 1)


class LinearNormal(Emission):
    r"""A vector z to :math:`\mathcal{N}(C z, \operatorname{diag} \sigma^2)`.

    Args:
        in_dim, x_dim: Sizes of z and of the vector that is emitted.
    """

    def __init__(self, in_dim: int, x_dim: int):
        super().__init__()
        self.x_dim = x_dim
        self.weight = nn.Parameter(torch.randn(x_dim, in_dim) / in_dim**0.5)
        self.log_scale = nn.Parameter(torch.full((x_dim,), -0.5))

    def forward(self, features: Tensor) -> dist.Distribution:
        return DiagonalNormal(linear(features, self.weight), self.log_scale)
