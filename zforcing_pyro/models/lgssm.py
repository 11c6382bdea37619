"""A linear-Gaussian state-space model: the oracle of every bound."""

from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn.functional import linear

from ..emissions import Emission
from ..emissions.normal import DiagonalNormal
from ..estimators.terms import Terms
from .base import StochasticRNN
from .checks import check_choice, check_positive
from .kalman import LinearGaussian, conditioned, filtered, future, present
from .recurrence.recurrence import roll_out_markov
from .steps import Context, State, StepTerms

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
    - :math:`p(x_t \mid z_t)` if it sees the ``present``: of all proposals that filter, the one
      whose incremental weights do not vary with the latent drawn.
    - 1 if it sees ``nothing``: q is the prior, as in a bootstrap particle filter.

    ``shift`` and ``log_spread``, parameters of the guide alone, move its means and widen its
    scales: 0 is none, anything else makes a bound loose on purpose.

    It stands in no table of models that are to be trained: its emission is part of it, and no
    family of the caller's choice. It fits the contract else, :meth:`step` included, and a net of
    those tables can be compared with it through their programs.

    Args:
        x_dim: Size of x_t.
        z_dim: Size of z_t.
        guide_sees: Which observations the guide sees beside z_{t-1}.
        shift: First value of ``shift``, added to the means.
        spread: First value of the factor on the scales.

    Raises:
        ValueError: If a size or ``spread`` is not positive, or ``guide_sees`` unknown.

    Example:
        >>> net, x, lengths = LGSSM(x_dim=2), torch.randn(3, 5, 2), torch.tensor([5, 5, 1])
        >>> bound = TraceIWAE().bound(net.terms(x, lengths))
        >>> torch.allclose(bound, net.log_likelihood(x, lengths), atol=1e-4)
        True
    """

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
        check_positive(x_dim=x_dim, z_dim=z_dim)
        check_choice(Sees, guide_sees=guide_sees)
        if spread <= 0:
            raise ValueError(f"'spread' must be positive, got {spread}")
        self.state_dims, self.guide_sees = {"z": z_dim}, guide_sees
        self.transition = nn.Parameter(0.9 * nn.init.orthogonal_(torch.empty(z_dim, z_dim)))
        self.log_scale = nn.Parameter(torch.full((z_dim,), -0.5))
        self.emission = LinearNormal(z_dim, x_dim)
        self.shift = nn.Parameter(torch.full((z_dim,), shift))
        self.log_spread = nn.Parameter(torch.full((z_dim,), spread).log())

    @property
    def system(self) -> LinearGaussian:
        """A, Q, C and R."""
        emission = self.emission
        return LinearGaussian(
            self.transition,
            (2 * self.log_scale).exp().diag(),
            emission.weight,
            (2 * emission.log_scale).exp().diag(),
        )

    def prior(self, z_past: Tensor) -> dist.Distribution:
        """p(z_t | z_{t-1})."""
        mean = linear(z_past, self.transition)
        return dist.MultivariateNormal(mean, scale_tril=self.log_scale.exp().diag())

    def affine(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q(z_t | z_{t-1}, x) of all steps, before it is moved and widened.

        Returns:
            The mean's slope in z_{t-1} and its offset, ``(batch, time, z_dim, z_dim)`` and
            ``(batch, time, z_dim)``, and the scale, lower triangular.
        """
        sees = {"future": future, "present": present}.get(self.guide_sees)
        precision, information = (sees or present)(self.system, x, mask)
        if sees is None:
            precision, information = 0 * precision, 0 * information
        Q = self.system.Q
        offset, covariance = conditioned(Q, torch.zeros_like(information), precision, information)
        slope = torch.linalg.solve(Q, covariance, left=False) @ self.transition
        return slope, offset, torch.linalg.cholesky(covariance)

    def approximation(
        self, z_past: Tensor, slope: Tensor, offset: Tensor, scale_tril: Tensor
    ) -> dist.Distribution:
        """q(z_t | z_{t-1}, x), given :meth:`affine`, of one step or all."""
        mean = (slope @ z_past[..., None])[..., 0] + offset + self.shift
        return dist.MultivariateNormal(mean, scale_tril=self.log_spread.exp()[:, None] * scale_tril)

    def model(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> State:
        x, mask = self.start(x, lengths)
        (z,) = self.begin(x, state, "z")
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", self.prior(z))
                    pyro.sample(f"x_{t}", self.emission(z), obs=x[:, t])
        return {"z": z}

    def guide(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> State:
        x, mask = self.start(x, lengths)
        (z,) = self.begin(x, state, "z")
        slope, offset, scale_tril = self.affine(x, mask)
        with pyro.plate("sequences", len(x), dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    q = self.approximation(z, slope[:, t], offset[:, t], scale_tril[:, t])
                    z = pyro.sample(f"z_{t}", q)
        return {"z": z}

    def terms(
        self,
        x: Tensor,
        lengths: Tensor,
        num_particles: int = 1,
        latents: Tensor | None = None,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> Terms:
        """Fast: the loop draws; densities are one call each. The KL is that of all dims jointly."""
        num_particles = num_particles if latents is None else len(latents)
        context, known = self.context(x, lengths, state, inputs)
        (z,) = self.particles(x, num_particles, state).values()
        affine = context["slope"], context["offset"], context["scale_tril"]

        def conditionals(*args: Tensor) -> tuple[dist.Distribution]:
            return (self.approximation(*args),)

        z_past, z, (posterior,) = roll_out_markov(conditionals, affine, z, latents)
        prior, log_emission = self.prior(z_past), self.emission(z).log_prob(context["x"])
        zero = torch.zeros_like(log_emission)
        return Terms(
            log_prior=prior.log_prob(z),
            log_posterior=posterior.log_prob(z),
            log_emission=log_emission,
            kl_per_latent=kl_divergence(posterior, prior)[..., None],
            auxiliary=zero,
            reverse=zero,
            latents=z,
            posterior_mean=posterior.mean,
            prior_mean=prior.mean,
            state=known | {"z": z[..., -1, :]},
        ).masked(context["mask"])

    def context(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None = None,
        inputs: Tensor | None = None,
    ) -> tuple[Context, State]:
        x, mask = self.start(x, lengths)
        slope, offset, scale_tril = self.affine(x, mask)
        context = {"slope": slope, "offset": offset, "scale_tril": scale_tril}
        return context | {"x": x, "mask": mask}, {}

    def step(
        self, state: State, context: Context, z: Tensor | None = None
    ) -> tuple[State, StepTerms]:
        z_past = state["z"]
        affine = context["slope"], context["offset"], context["scale_tril"]
        prior, posterior = self.prior(z_past), self.approximation(z_past, *affine)
        z = posterior.rsample() if z is None else z
        return {"z": z}, StepTerms.at(
            context["mask"],
            latents=z,
            log_prior=prior.log_prob(z),
            log_posterior=posterior.log_prob(z),
            log_emission=self.emission(z).log_prob(context["x"]),
        )

    def log_likelihood(self, x: Tensor, lengths: Tensor, state: State | None = None) -> Tensor:
        """log p(x) of each sequence, in nats, by the Kalman filter. Shape ``(batch,)``."""
        x, mask = self.start(x, lengths)
        _, _, log_prob = filtered(self.system, x, *self.begin(x, state, "z"))
        return (mask * log_prob).sum(-1)

    def smoother(
        self, x: Tensor, lengths: Tensor, state: State | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and covariance of p(z_t | x_1, ..., x_T), of no meaning at padding.

        Shapes ``(batch, time, z_dim)`` and ``(batch, time, z_dim, z_dim)``.
        """
        x, mask = self.start(x, lengths)
        mean, covariance, _ = filtered(self.system, x, *self.begin(x, state, "z"))
        return conditioned(covariance, mean, *future(self.system, x, mask))


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
