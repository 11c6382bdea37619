"""Variational Walkback (Goyal, Ke, Ganguli, Bengio, 2017): https://arxiv.org/abs/1711.02282."""

from collections.abc import Iterator
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ..data.checks import MAX_SIZE, check_range
from ..emissions import Bernoulli, DiagNormal
from ..emissions.operators import BernoulliOperator, GaussianOperator, Operator, log_temperatures
from ..estimators.terms import Terms
from .base import EmissionFactory, StochasticRNN

MOMENTUM = 0.01
"""Share of a batch in the running moments of last states, once 100 batches are seen."""


class Walkback(StochasticRNN):
    r"""A walk away from data that heats up, and the same operator for the way back.

    .. math::
        p(x, s_{1:K}) &= p^*(s_K) \prod_k p_{T_k}(s_{k-1} \mid s_k), & s_0 &= x

        q(s_{1:K} \mid x) &= \prod_k p_{T_k}(s_k \mid s_{k-1})

    One operator is both model and guide. :math:`p^*` is a Gaussian, or independent bits, with the
    running moments of the last states. A sequence is one vector: data of a single step. The latent
    of site ``z_{k-1}`` is s_k. Diffusion models (Ho et al., 2020) have the same bound with a fixed
    walk. The bound ``walkback`` trains the way back alone; every other bound works too.

    Args:
        emission: Family of the data: ``gaussian`` walks among reals, ``bernoulli`` among bits.
        x_dim: Size of x.
        steps: K; 0 is p* alone.
        factor: Ratio of successive temperatures. factor^(K-1) sigma^2 should be about the variance
            of the data.
        cold_steps: Steps at temperature 1 before the heating.
        alpha: Share of s in the mean of the next state, in [0, 1).
        sigma0, sigma_floor: Unit and floor of the scale at temperature 1.
        hidden_dim, layers: Size and number of the operator's hidden layers.
        reads_temperature: Lets the operator's network read log T.
        residual: Starts as a walk that stays about where it is.
        fixed_walk: Walks by Gaussian noise of scale ``sigma0`` sqrt(T) instead, a guide without
            parameters: the diffusion that a reader compares with. For reals alone.
        extra_steps: Steps at temperature 1 that generation adds.

    Raises:
        ValueError: If a number is out of its range, or data are neither reals nor bits.
    """

    of_vectors = True
    reads_inputs = False
    log_t: Tensor
    mean: Tensor
    variance: Tensor
    num_observed: Tensor

    def __init__(
        self,
        emission: EmissionFactory,
        x_dim: int,
        steps: int = 10,
        factor: float = 2.0,
        cold_steps: int = 0,
        alpha: float = 0.5,
        sigma0: float = 0.05,
        sigma_floor: float = 1e-3,
        hidden_dim: int = 128,
        layers: int = 2,
        reads_temperature: bool = True,
        residual: bool = True,
        fixed_walk: bool = False,
        extra_steps: int = 0,
    ):
        super().__init__()
        check_range(1, MAX_SIZE, x_dim=x_dim, hidden_dim=hidden_dim, layers=layers)
        check_range(0, steps=steps, cold_steps=cold_steps, extra_steps=extra_steps)
        if not (1 <= factor <= 100 and 0 <= alpha < 1 and sigma0 > 0 and sigma_floor > 0):
            raise ValueError(
                "'factor' must be in 1..100, 'alpha' in [0, 1), 'sigma0' and 'sigma_floor' "
                f"positive, got {factor}, {alpha}, {sigma0} and {sigma_floor}"
            )
        family = emission(1, x_dim)
        sizes = x_dim, hidden_dim, layers, reads_temperature, residual
        if not isinstance(family, (DiagNormal, Bernoulli)) or family.missing:
            raise ValueError(
                "'emission' must be gaussian or bernoulli, without missing values, for Walkback, "
                f"got {type(family).__name__}"
            )
        if fixed_walk and isinstance(family, Bernoulli):
            raise ValueError("'fixed_walk' must be False for bits, got True")
        self.emission: Operator = (
            GaussianOperator(*sizes, alpha=alpha, sigma0=sigma0, sigma_floor=sigma_floor)
            if isinstance(family, DiagNormal)
            else BernoulliOperator(*sizes)
        )
        self.state_dims, self.fixed_walk, self.extra_steps = {}, fixed_walk, extra_steps
        log_t = log_temperatures(steps, factor, cold_steps).to(torch.get_default_dtype())
        self.register_buffer("log_t", log_t, persistent=False)
        self.register_buffer("mean", torch.zeros(x_dim))
        self.register_buffer("variance", torch.ones(x_dim))
        self.register_buffer("num_observed", torch.zeros(()))

    @property
    def has_fast(self) -> bool:
        programs = "model", "guide"
        same = all(getattr(type(self), name) is getattr(Walkback, name) for name in programs)
        return same and not vars(self).keys() & set(programs) and len(self.log_t) > 0

    @property
    def has_steps(self) -> bool:
        return False

    @property
    def last(self) -> Any:
        """p*, the distribution of s_K."""
        # A copy: `observe` moves the moments before the gradient is taken.
        return self.emission.marginal(self.mean.clone(), self.variance)

    def forth(self, s: Tensor, log_t: Tensor) -> Any:
        """Returns q(s_k | s_{k-1})."""
        if not self.fixed_walk:
            return self.emission(s, log_t)
        scale = torch.full_like(s, self.emission.sigma0)  # type: ignore[arg-type]
        return self.emission.marginal(s, scale.square() * log_t.exp()[..., None])

    def model(self, x, lengths=None, state=None, inputs=None):
        x, _ = self.start(x, lengths)
        distribution = self.last
        with pyro.plate("sequences", len(x), dim=-1):
            for k in pyro.markov(range(len(self.log_t) - 1, -1, -1)):
                s = pyro.sample(f"z_{k}", distribution)
                distribution = self.emission(s, self.log_t[k])
            pyro.sample("x_0", distribution, obs=x[:, 0])
        return {}

    def guide(self, x, lengths=None, state=None, inputs=None):
        x, _ = self.start(x, lengths)
        s = x[:, 0]
        with pyro.plate("sequences", len(x), dim=-1):
            for k in pyro.markov(range(len(self.log_t))):
                s = pyro.sample(f"z_{k}", self.forth(s, self.log_t[k]))
        return {}

    def start(self, x, lengths=None):
        x = self.observations(x)
        if x.dim() == 3 and x.shape[1] != 1:
            raise ValueError(
                "'x' must have one step for Walkback, as --data points has, or images with "
                f"--data.vectors true, got {x.shape[1]}"
            )
        return super().start(x, lengths)

    def terms(self, x, lengths=None, num_particles=1, latents=None, state=None, inputs=None):
        """Returns the terms of a walk, or of ``latents``, ``(particles, batch, K, x_dim)``.

        A walk is drawn step by step. The way back is scored by one call of the operator on all its
        steps. Along given latents no recurrence is left, as in :class:`.TraceWalkback`.
        """
        if not self.has_fast:
            return self.program_terms(x, lengths, num_particles, latents, state, inputs)
        x, mask = self.start(x, lengths)
        x, score = x[:, 0].expand(num_particles if latents is None else len(latents), -1, -1), {}
        if latents is None:
            walk, log_posterior = self.drawn(x)
            before, latents = walk[..., :-1, :], walk[..., 1:, :]
            if torch.is_grad_enabled() and not self.emission.has_rsample:
                score = {f"z_{k}": log_q for k, log_q in enumerate(log_posterior.unbind(-1))}
        else:
            before = torch.cat([x[..., None, :], latents], -2)[..., :-1, :]
            log_posterior = self.forth(before, self.log_t).log_prob(latents)
        log_back = self.emission(latents, self.log_t).log_prob(before)
        log_last = self.last.log_prob(latents[..., -1, :])[..., None]
        log_p = torch.cat([log_back, log_last], -1)
        log_prior, log_emission = log_p[..., 1:], log_p[..., :1]
        # Only the last step has a closed form: the model draws all others later than the guide.
        step = self.forth(before[..., -1:, :], self.log_t[-1:])
        kl_last = kl_divergence(step, self.last.expand(step.batch_shape))
        kl = torch.cat([(log_posterior - log_prior)[..., :-1], kl_last], -1)
        zero = torch.zeros_like(log_emission)
        return Terms(
            log_prior,
            log_posterior,
            log_emission,
            kl[..., None],
            zero,
            zero,
            latents,
            weights=self.active_weights,
            state={},
            mask=mask,
            kl_drawn=True,
            score=score,
        )

    def drawn(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a walk from x, ``(..., K + 1, x_dim)``, and log q of its steps, ``(..., K)``."""
        states, log_q = [x], [x.new_zeros(*x.shape[:-1], 0)]
        for log_t in self.log_t:
            step = self.forth(states[-1], log_t)
            states.append(step.rsample() if self.emission.has_rsample else step.sample())
            log_q.append(step.log_prob(states[-1])[..., None])
        return torch.stack(states, -2), torch.cat(log_q, -1)

    @torch.no_grad()
    def observe(self, terms: Terms) -> None:
        """Moves the moments of p* to those of the last states of walks."""
        if terms.latents is None or not len(self.log_t):
            return
        last = terms.latents[..., -1, :].flatten(0, -2)
        self.num_observed += 1
        share = (1 / self.num_observed).clamp(min=MOMENTUM)
        shift = last.mean(0) - self.mean
        spread = last.var(0, correction=0) + (1 - share) * shift.square()
        self.variance.lerp_(spread, share).clamp_(min=1e-12)
        self.mean.add_(share * shift)

    def walk(self, x: Tensor) -> Tensor:
        """Returns a walk from x, ``(batch, x_dim)``: x and K states, ``(batch, K + 1, x_dim)``."""
        with torch.no_grad():
            return self.drawn(x)[0]

    def online(self, x: Tensor) -> Iterator[Tensor]:
        """Yields -log p(s_{k-1} | s_k) of each step of a walk from x, in nats, ``(batch,)``.

        An optimiser may take a step after each, before the walk goes on with the new weights. The
        sum of all, without such steps, has the gradient of the bound ``walkback``.

        Args:
            x: ``(batch, x_dim)``.
        """
        for log_t in self.log_t:
            with torch.no_grad():
                s = self.forth(x, log_t).sample()
            yield -self.emission(s, log_t).log_prob(x)
            x = s

    @torch.no_grad()
    def walk_back(self, num: int) -> Tensor:
        """Returns ways back from p*: all states, s_K first, ``(num, K + 1, x_dim)``."""
        states = [self.last.expand((num,)).sample()]
        for log_t in self.log_t.flip(0):
            states.append(self.emission(states[-1], log_t).sample())
        return torch.stack(states, 1)

    @torch.no_grad()
    def cooled(self, s: Tensor, num: int) -> Tensor:
        """Returns states after ``num`` more steps at temperature 1, shaped like ``s``."""
        for _ in range(num):
            s = self.emission(s, s.new_zeros(())).sample()
        return s

    def generate(self, num_sequences: int, num_steps: int = 1, prefix: Tensor | None = None):
        """Draws vectors, ``(num_sequences, 1, x_dim)``: the way back from p*, then extra steps.

        Raises:
            ValueError: If there is a prefix, or more than one step is asked for.
        """
        if num_steps != 1 or prefix is not None:
            raise ValueError(
                f"'num_steps' must be 1 for Walkback, and 'prefix' None, got {num_steps}"
                + " and a prefix" * (prefix is not None)
            )
        check_range(1, num_sequences=num_sequences)
        return self.cooled(self.walk_back(num_sequences)[:, -1:], self.extra_steps)
